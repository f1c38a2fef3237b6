"""FA-Seg, in one file: `method`."""
