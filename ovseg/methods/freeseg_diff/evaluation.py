"""FreeSeg-Diff evaluated: as its released code does it, and by ablations, each of which changes one thing."""

from ovseg.methods.protocol import Protocol
from ovseg.methods.records import AblationRow

PROTOCOL = Protocol(
    "freeseg",
    "FreeSeg-Diff's: a square for the diffusion network alone, void counts as background; its figure is the mean"
    " over pictures",
    squashed=True,
    void_is_background=True,
)

ABLATIONS = (
    AblationRow("the settings that suit the backbone"),
    AblationRow("as released", mode="released"),
    AblationRow("best effort", mode="best effort"),
    AblationRow("open vocabulary: the caption's own words join", {"vocabulary": "open"}),
    AblationRow("closed vocabulary: the given classes alone", {"vocabulary": "closed"}),
    AblationRow("closed vocabulary, several clusters for a class", {"vocabulary": "closed", "one_each": False}),
    AblationRow("several clusters for a class", {"one_each": False}),
    AblationRow("all given classes are candidates, without a caption", {"words": "classes", "vocabulary": "closed"}),
    AblationRow("all class names, of which the caption chooses", labels="all"),
    AblationRow("CLIP's keys clustered", {"features": "clip"}),
    AblationRow("DINO's keys clustered", {"features": "dino"}, needs=("dino",)),
    AblationRow("raw pixels clustered", {"features": "pixels"}),
    *(AblationRow(f"t = {t}", {"timestep": t}) for t in (0, 50, 100, 200, 300)),
    *(AblationRow(f"{k} clusters", {"clusters": k}) for k in (2, 3, 4, 6, 8)),
    AblationRow("without refinement", {"refinement": "none"}),
    AblationRow("refined by PAMR", {"refinement": "pamr"}),
    AblationRow("refined by a CRF", {"refinement": "crf"}),
)
