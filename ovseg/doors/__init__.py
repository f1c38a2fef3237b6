"""What programs can ask for: `segment`, `compare`, `caption`, `generate`, as plain values in and JSON out.

A request is checked when it is made, before any network is loaded; `run` then does the work by the same code as the command
line. Nothing here knows how requests come in: `ovseg.demo.doors` serves them.
"""
