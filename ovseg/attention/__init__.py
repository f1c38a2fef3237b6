"""What the network attends to in one picture, by token, layer and noise level: as a value, and what it takes to get it."""

from ovseg.attention.gathering import draw_inside, heads_of, look_inside
from ovseg.attention.plan import Inspection, Plan, plan_drawing, plan_looking
from ovseg.attention.value import Attention, Heads

__all__ = [
    "Attention", "Heads", "Inspection", "Plan", "draw_inside", "heads_of", "look_inside", "plan_drawing",
    "plan_looking",
]  # fmt: skip
