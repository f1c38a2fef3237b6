"""What protects a page that everybody may open: what it answers, whom it keeps, how much it does. Knows no method."""
