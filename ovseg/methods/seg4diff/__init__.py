"""Seg4Diff: `method` has the steps, `slots` what is found without words."""
