"""Pure tensor maths: maps, clusters, edges, cuts, overlap. Knows no network."""
