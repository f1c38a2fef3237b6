"""DiffSegmenter evaluated: as its released code does it, and by ablations, each of which changes one thing."""

from ovseg.methods.protocol import Protocol
from ovseg.methods.records import AblationRow

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

ABLATIONS = (
    AblationRow("the settings that suit the backbone"),
    AblationRow("self-attention applied once, as in the paper", {"refinements": 1, "refine_stride": 1}),
    *(AblationRow(f"self-attention applied once, at stride {s}", {"refinements": 1, "refine_stride": s}) for s in (2, 4)),
    AblationRow("without self-attention", {"refinements": 0}),
    AblationRow("stride 1 alone", {"stride_weights": (1.0, 0.0, 0.0)}),
    AblationRow("stride 2 alone", {"stride_weights": (0.0, 1.0, 0.0)}),
    AblationRow("stride 4 alone", {"stride_weights": (0.0, 0.0, 1.0)}),
    *(AblationRow(f"t = {t}", {"timesteps": (t,)}) for t in (20, 50, 100, 200, 300, 500)),
    AblationRow("1 noise draw", {"draws": 1}),
    AblationRow("4 noise draws", {"draws": 4}),
    AblationRow("8 noise draws", {"draws": 8}),
    AblationRow("classes by the CLIP filter", labels="clip", needs=("clip",)),
    AblationRow("classes by the CLIP filter or the caption", labels="clip-caption", needs=("clip", "captioner")),
    AblationRow("all class names on every picture", labels="all"),
    AblationRow("the class word emphasised, as in the paper", {"emphasis": 1.21}),
    AblationRow("the prompt continued by the captioner, as in the paper", {"continued": True}, needs=("captioner",)),
)
