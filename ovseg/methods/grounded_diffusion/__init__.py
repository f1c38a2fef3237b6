"""Grounded Diffusion, in one file: `method`."""
