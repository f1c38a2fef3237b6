"""OVDiff evaluated: as its released code does it, and by ablations, each of which changes one thing."""

from ovseg.methods.protocol import Protocol
from ovseg.methods.records import AblationRow

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

ABLATIONS = (
    AblationRow("the settings that suit the backbone"),
    AblationRow("without background prototypes", {"background": "none"}, paper="ovdiff-background"),
    AblationRow("with the category pre-filter", {"prefilter": True}),
    AblationRow("without the category pre-filter", {"prefilter": False}),
    AblationRow("without the stuff filter", {"stuff_filter": False}, paper="ovdiff-stuff"),
    AblationRow("masks by MaskCut", {"masks": "maskcut"}, needs=("dino",)),
    AblationRow("masks by Otsu's thresholds", {"masks": "otsu"}, paper="ovdiff-masks"),
    AblationRow("mean prototypes alone", {"kinds": "mean"}, paper="ovdiff-mean"),
    AblationRow("diffusion features alone", {"extractors": ("diffusion",)}, paper="ovdiff-diffusion"),
    AblationRow("CLIP features alone", {"extractors": ("clip",)}, paper="ovdiff-clip"),
    AblationRow("DINO features alone", {"extractors": ("dino",)}, paper="ovdiff-dino", needs=("dino",)),
    AblationRow(
        "diffusion, CLIP and DINO features together", {"extractors": ("diffusion", "clip", "dino")}, needs=("dino",)
    ),
    *(AblationRow(f"{n} support images", {"images": n}) for n in (4, 8, 16, 32, 64)),
    AblationRow("refined by PAMR", {"refinement": "pamr"}, paper="ovdiff-pamr"),
    AblationRow("without refinement", {"refinement": "none"}),
    AblationRow("all class names on every picture", labels="all", paper="ovdiff-prefilter"),
    AblationRow("all class names and the pre-filter", {"prefilter": True}, labels="all"),
    AblationRow("classes by the CLIP filter", labels="clip"),
)
