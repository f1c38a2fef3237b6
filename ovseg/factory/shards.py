"""Several safetensors files as one, without holding them in memory: items of Stable Diffusion's features have 70 MB each."""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from safetensors import safe_open

BYTES = {"F64": 8, "F32": 4, "F16": 2, "U8": 1}  # of a number, by its name in the format
ALIGNMENT = 8  # the header's length is a multiple of it


def joined(paths: Sequence[Path], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """The bytes of one file with the arrays of several, one behind the other along the first axis.

    At most one array of one file is in memory at a time. All files must have the same arrays, which may differ in their
    first axis alone.

    Args:
        metadata: of the file; with one entry the same arrays always give the same bytes.

    Raises:
        SafetensorError: a file is damaged.
        OSError: a file cannot be read.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "np")) for path in paths]
        parts = {name: [file.get_slice(name) for file in files] for name in files[0].keys()}  # noqa: SIM118  no dictionary
        # Wide numbers first, so that every array begins at a multiple of its numbers' size.
        names = sorted(parts, key=lambda name: (-BYTES[parts[name][0].get_dtype()], name))
        header, end = {"__metadata__": dict(metadata)}, 0
        for name in names:
            kind, first = parts[name][0].get_dtype(), parts[name][0].get_shape()
            shape = [sum(part.get_shape()[0] for part in parts[name]), *first[1:]]
            begin, end = end, end + BYTES[kind] * math.prod(shape)
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        yield struct.pack("<Q", len(text)) + text
        for name in names:
            for file in files:
                yield file.get_tensor(name).tobytes()
