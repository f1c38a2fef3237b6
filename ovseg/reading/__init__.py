"""Reading cross-attention in parts: each is a small pure function, and a method chooses among them.

`heads`: how much each head of a layer counts. `layers`: how much each layer counts. `scale`: what makes words comparable.
`refinement`: how self-attention spreads maps. `prompts`: what the network is told. `background`: where no word is. `recipe`:
a choice of parts, and what comes of it.
"""
