"""DiffSegmenter, a file for each of its parts.

`method`: the steps in their order. `settings`: what can be turned. `rows`: maps of phrases, and the self-attention.
`evaluation` and `about`: what is said of it elsewhere.
"""
