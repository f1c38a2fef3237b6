"""The Gradio page. The only place that knows gradio."""

from ovseg.demo.build import build, launch

__all__ = ["build", "launch"]
