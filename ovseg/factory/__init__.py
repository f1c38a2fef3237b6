"""The data factory of Grounded Diffusion: generated pictures with masks, and what is trained on them."""
