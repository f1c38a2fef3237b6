"""CLIPSeg: `method` has the settings and what is made of the network's masks."""
