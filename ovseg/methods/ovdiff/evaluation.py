"""How the released code of OVDiff evaluates."""

from ovseg.methods.protocol import Protocol

PROTOCOL = Protocol(
    "ovdiff",
    "OVDiff's windows of two sizes and the whole picture",
    short_side=448,
    windows=(448, 336),
    whole_too=True,
    names=dict.fromkeys(("voc", "context", "coco-object", "coco-stuff", "ade20k"), "ovdiff"),
    cuts_itself="ovdiff",
    settings={("ovdiff", ""): {"short_side": 448, "windows": (448, 336), "window_stride": 224, "windows_always": True}},
)
