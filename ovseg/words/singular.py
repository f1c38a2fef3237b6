"""The dictionary form of English nouns: rules of spelling, and the words that break them."""

# Plurals that no rule of spelling gives.
IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth", "geese":
    "goose", "mice": "mouse", "lice": "louse", "oxen": "ox", "dice": "die", "axes": "axe", "lenses": "lens", "gases":
    "gas", "canvases": "canvas", "atlases": "atlas", "irises": "iris", "trellises": "trellis", "aliases": "alias",
    "biases": "bias", "ibises": "ibis", "pancreases": "pancreas", "rhinoceroses": "rhinoceros", "thermoses": "thermos",
    "quizzes": "quiz", "cacti": "cactus", "fungi": "fungus", "octopi": "octopus", "hippopotami": "hippopotamus",
    "larvae": "larva", "antennae": "antenna", "bacteria": "bacterium", "aquaria": "aquarium", "crises": "crisis",
    "oases": "oasis", "passersby": "passerby",
}  # fmt: skip
# Nouns that end as plurals do, and are the same in the singular or have none.
UNCHANGED = frozenset({
    "scissors", "clothes", "bedclothes", "jeans", "trousers", "pants", "shorts", "overalls", "pyjamas", "pajamas", "tights",
    "leggings", "sunglasses", "eyeglasses", "binoculars", "goggles", "headphones", "pliers", "tongs", "tweezers",
    "news", "series", "species", "christmas", "texas", "gas", "lens", "canvas", "atlas", "alias", "bias", "pancreas",
    "pampas", "chaos", "cosmos", "thermos", "asbestos", "rhinoceros", "ethos", "kudos", "headquarters", "crossroads",
    "barracks", "gallows", "corps", "mews", "chestofdrawers", "molasses", "suds", "thanks", "remains", "goods",
    "sports", "mathematics", "physics", "athletics", "politics", "electronics",
})  # fmt: skip
# Nouns whose plural has "ves" for their "f" or "fe": knives, leaves. Others' ends in "ve": stoves, gloves.
OF_VES = (
    "calf", "elf", "half", "hoof", "knife", "leaf", "life", "loaf", "meatloaf", "scarf", "self", "sheaf", "shelf",
    "bookshelf", "thief", "wharf", "wife", "housewife", "wolf", "werewolf", "dwarf", "midwife", "penknife",
)  # fmt: skip
# Nouns that lose the "s" of their plural alone, where the rule of its ending would take more, or nothing.
OF_S = (
    # movies; the rule is cities
    "movie", "pie", "tie", "lie", "die", "bowtie", "necktie", "magpie", "cookie", "brownie", "smoothie", "hoodie", "selfie",
    "birdie", "genie", "hippie", "rookie", "walkie", "talkie", "budgie", "collie", "veggie", "pixie", "zombie", "calorie",
    "prairie", "beanie", "goalie", "foodie", "roadie", "techie", "nightie", "auntie", "doggie", "cutie", "sweetie", "lassie",
    "laddie", "sortie", "menagerie", "lingerie", "rotisserie", "patisserie", "hogtie", "yuppie",
    # shoes; the rule is potatoes
    "shoe", "horseshoe", "snowshoe", "toe", "canoe", "hoe", "doe", "foe", "oboe", "floe", "aloe", "roe", "sloe", "mistletoe",
    # headaches; the rule is benches, brushes
    "ache", "headache", "toothache", "cache", "avalanche", "moustache", "mustache", "niche", "quiche", "creche", "porsche",
    "brioche", "douche", "pastiche", "ganache", "panache",
    # fuses; the rule is buses
    "fuse", "muse", "use", "excuse", "ruse", "recluse", "cause", "clause", "pause", "hypotenuse",
    # skis; the rule is tennis
    "ski", "taxi", "kiwi", "bikini", "zucchini", "safari", "alibi", "salami", "sushi", "jacuzzi", "khaki", "origami",
    "rabbi", "deli", "chili", "corgi", "broccoli", "teriyaki", "spaghetti", "graffiti", "waterski", "panini", "martini",
    "mini", "yeti", "jedi", "emoji", "kimchi", "tsunami", "sari", "maxi", "ravioli", "biscotti", "confetti", "okapi",
    "wasabi", "samurai",
    # menus; the rule is cactus
    "menu", "emu", "gnu", "tofu", "haiku", "guru", "tutu", "caribou", "bayou", "tiramisu", "zebu", "flu",
)  # fmt: skip
SINGULARS = (
    {word + "s": word for word in OF_S}
    | {f"{word.removesuffix('e').removesuffix('f')}ves": word for word in OF_VES}
    | IRREGULAR
)
ENDINGS = (  # of plurals, how many letters are taken off, and what comes in their place; the first that fits
    ("ies", 3, "y"), (("oes", "ches", "shes", "xes", "sses", "zzes", "tzes"), 2, ""), ("ouses", 1, ""), ("uses", 2, ""),
    (("us", "is"), 0, ""), ("", 1, ""),
)  # fmt: skip
LONGEST = 40  # characters of a word that is looked at; no noun is longer


def singular(word: str) -> str:
    """The dictionary form of a noun in lower case: "skis" is "ski", "glasses" is "glass", "bus" stays.

    Of a word with hyphens the last part is changed: "wall-tiles" is "wall-tile". A form of possession loses its ending.
    """
    before, hyphen, last = word.removesuffix("'s").rpartition("-")
    return before + hyphen + (_singular(last) if len(last) <= LONGEST else last)


def _singular(word: str) -> str:
    if word in SINGULARS:
        return SINGULARS[word]
    if word.endswith("men") and len(word) > 5 and word not in ("specimen", "abdomen", "acumen", "regimen"):
        return f"{word[:-3]}man"  # snowmen, policewomen
    if not word.endswith("s") or word.endswith("ss") or word in UNCHANGED or len(word) < 3:
        return word
    if word.endswith("ies") and len(word) < 5:
        return word[:-1]  # vies
    taken, added = next((taken, added) for ending, taken, added in ENDINGS if word.endswith(ending))
    return word[: len(word) - taken] + added
