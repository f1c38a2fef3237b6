"""How the released code of DiffSegmenter evaluates."""

from ovseg.methods.protocol import Protocol

PROTOCOL = Protocol(
    "diffsegmenter",
    "DiffSegmenter's square and class words, labels by its filter; its figure is that of the best threshold on these"
    " pictures",
    squashed=True,
    labels="released-filter",
    settings={
        ("diffsegmenter", ""): {"filtered": False},
        ("diffsegmenter", "context"): {"prompt": "a photography of {}"},
        ("diffsegmenter", "coco-object"): {"prompt": "a photography of {}"},
    },
    names=dict.fromkeys(("voc", "context", "coco-object"), "diffsegmenter"),
    swept=tuple(round(0.3 + 0.01 * k, 2) for k in range(45)),
)
