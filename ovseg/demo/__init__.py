"""The Gradio page. Only this and the room that protects it know gradio.

What a visitor chose, sent or named that is missing or not as it must be raises ValueError, which an event shows as a
sentence.
"""

from ovseg.demo.build import build, launch

__all__ = ["build", "launch"]
