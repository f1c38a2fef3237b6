"""The trained segmenter: `method` has the settings and how its labels become classes and background."""
