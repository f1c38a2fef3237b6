"""What a public server must bear, tried on a page in a process of its own: `python -m pytest -m attack tests/attack`."""
