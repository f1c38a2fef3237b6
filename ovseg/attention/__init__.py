"""What the network attends to in one picture, by token, layer and noise level: as a value, and what it takes to get it."""

from ovseg.attention.gathering import again, draw_inside, heads_of, look_inside
from ovseg.attention.later import Later, beside_a_pass, word_later
from ovseg.attention.plan import Inspection, Plan, plan_drawing, plan_looking
from ovseg.attention.value import Attention, Heads

__all__ = [
    "Attention", "Heads", "Inspection", "Later", "Plan", "again", "beside_a_pass", "draw_inside", "heads_of", "look_inside",
    "plan_drawing", "plan_looking", "word_later",
]  # fmt: skip
