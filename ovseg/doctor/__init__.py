"""Does it work here? Published networks in their repositories' format with random weights, and a check of all of them."""
