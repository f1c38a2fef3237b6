"""What a public server must bear, against a page in a process of its own. `python -m pytest -m attack tests/attack` runs it."""
