"""iSeg, in one file: `method`."""
