"""What an MCP client reads of an answer: JSON as text, and pictures as pictures."""

import base64
import json
from typing import TYPE_CHECKING, Any

from ovseg.server.gradio_parts import file_of

if TYPE_CHECKING:
    from mcp.types import ImageContent, TextContent


def content_of(outputs: Any, root_url: str) -> "list[TextContent | ImageContent]":
    """An answer's outputs as MCP's content. Gradio itself would write Python's own notation, which is no JSON.

    Args:
        outputs: what a door returned; files are described by dictionaries.
        root_url: the server's address, where Gradio asks for one.
    """
    from mcp.types import ImageContent, TextContent  # here, because a page without MCP clients does not need it

    content = []
    # Of several outputs Gradio's own client makes a list in a list.
    for output in (item for one in outputs for item in (one if isinstance(one, (list, tuple)) else [one])):
        if path := file_of(output):
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            content.append(ImageContent(type="image", data=data, mimeType="image/png"))
        else:
            content.append(TextContent(type="text", text=json.dumps(output, ensure_ascii=False)))
    return content
