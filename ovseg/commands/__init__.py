"""The commands of `python -m ovseg`, a file for each kind of work."""
