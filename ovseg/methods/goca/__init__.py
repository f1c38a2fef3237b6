"""GoCA, in one file: `method`."""
