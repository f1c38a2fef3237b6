"""SAM 3: `method` has the settings and what is made of the network's instances."""
