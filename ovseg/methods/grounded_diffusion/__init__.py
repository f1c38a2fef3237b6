"""Grounded Diffusion, a file for each of its parts.

`method`: the steps in their order, and what can be turned. `about`: its steps in
pictures.
"""
