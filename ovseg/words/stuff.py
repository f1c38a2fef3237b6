"""Which class words mean stuff (grass, sky: no shape of its own) and which mean things (cat, car)."""

# Decided by hand for the names of PASCAL Context, COCO-Stuff, ADE20K and the pocket world. (The released table of OVDiff
# calls sea, sand, field and hill things.)
STUFF = frozenset({
    "sky", "cloud", "clouds", "grass", "lawn", "ground", "dirt", "earth", "mud", "soil", "gravel", "sand", "beach", "snow",
    "ice", "water", "sea", "ocean", "river", "lake", "pool", "waterfall", "fog", "smoke", "fire", "rain", "field",
    "land", "mountain", "hill", "rock", "stone", "cliff", "forest", "wood", "woods", "bush", "leaves", "moss", "straw",
    "road", "street", "path", "sidewalk", "pavement", "track", "railroad", "runway", "platform", "playingfield", "court",
    "floor", "ceiling", "wall", "brick", "bricks", "brick wall", "tile", "tiles", "planks", "metal", "plastic", "paper",
    "cardboard", "glass", "concrete", "marble", "carpet", "rug", "mat", "curtain", "cloth", "textile", "bedclothes",
    "blanket", "fence", "railing", "net", "vegetation", "plants", "fog bank", "crowd", "salad", "food",
})  # fmt: skip
THINGS = frozenset({
    "person", "bicycle", "car", "motorbike", "airplane", "bus", "train", "truck", "boat", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "bag", "suitcase", "ball",
    "kite", "bottle", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "orange", "pizza", "cake", "chair", "sofa",
    "potted plant", "bed", "table", "toilet", "tv", "laptop", "computer", "mouse", "keyboard", "phone", "oven", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "traffic light", "sign", "tree", "house", "flower", "fish",
    "building", "door", "window", "lamp", "mirror", "shelf", "cabinet", "plate", "tower", "bridge", "statue", "box",
})  # fmt: skip

# What OVDiff's released table calls stuff, beside background itself: 19 names of PASCAL Context, and 6 of ADE20K.
RELEASED_STUFF = frozenset({
    "bedclothes", "ceiling", "cloth", "curtain", "fence", "floor", "grass", "ground", "mountain", "platform", "road", "rock",
    "sidewalk", "sky", "snow", "track", "wall", "water", "wood", "step", "trade name", "lake", "blanket", "tray", "glass",
})  # fmt: skip


def is_stuff(name: str) -> bool | None:
    """Whether a class is stuff by these tables; None for a word that is in neither."""
    return True if name.lower() in STUFF else False if name.lower() in THINGS else None
