"""How the released code of FreeSeg-Diff evaluates."""

from ovseg.methods.protocol import Protocol

PROTOCOL = Protocol(
    "freeseg",
    "FreeSeg-Diff's: a square for the diffusion network alone, void counts as background; its figure is the mean"
    " over pictures",
    squashed=True,
    void_is_background=True,
)
