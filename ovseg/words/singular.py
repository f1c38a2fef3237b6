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
# Singulars that the rule for their plural's ending would miss, by that ending.
OF_VES = frozenset({  # knives, leaves; the rule is stoves, gloves
    "calf", "elf", "half", "hoof", "knife", "leaf", "life", "loaf", "meatloaf", "scarf", "self", "sheaf", "shelf",
    "bookshelf", "thief", "wharf", "wife", "housewife", "wolf", "werewolf", "dwarf", "midwife", "penknife",
})  # fmt: skip
OF_IES = frozenset({  # movies; the rule is cities
    "movie", "pie", "tie", "lie", "die", "bowtie", "necktie", "magpie", "cookie", "brownie", "smoothie", "hoodie", "selfie",
    "birdie", "genie", "hippie", "rookie", "walkie", "talkie", "budgie", "collie", "veggie", "pixie", "zombie", "calorie",
    "prairie", "beanie", "goalie", "foodie", "roadie", "techie", "nightie", "auntie", "doggie", "cutie", "sweetie",
    "lassie", "laddie", "sortie", "menagerie", "lingerie", "rotisserie", "patisserie", "hogtie", "yuppie",
})  # fmt: skip
OF_OES = frozenset({  # shoes; the rule is potatoes
    "shoe", "horseshoe", "snowshoe", "toe", "canoe", "hoe", "doe", "foe", "oboe", "floe", "aloe", "roe", "sloe", "mistletoe",
})  # fmt: skip
OF_CHES_AND_SHES = frozenset({  # headaches; the rule is benches, brushes
    "ache", "headache", "toothache", "cache", "avalanche", "moustache", "mustache", "niche", "quiche", "creche", "porsche",
    "brioche", "douche", "pastiche", "ganache", "panache",
})  # fmt: skip
OF_USES = frozenset({  # houses; the rule is buses
    "fuse", "muse", "use", "excuse", "ruse", "recluse", "cause", "clause", "pause", "hypotenuse",
})  # fmt: skip
OF_IS = frozenset({  # skis; the rule is tennis
    "ski", "taxi", "kiwi", "bikini", "zucchini", "safari", "alibi", "salami", "sushi", "jacuzzi", "khaki", "origami",
    "rabbi", "deli", "chili", "corgi", "broccoli", "teriyaki", "spaghetti", "graffiti", "waterski", "panini",
    "martini", "mini", "yeti", "jedi", "emoji", "kimchi", "tsunami", "sari", "maxi", "ravioli", "biscotti",
    "confetti", "okapi", "wasabi", "samurai",
})  # fmt: skip
OF_US = frozenset({"menu", "emu", "gnu", "tofu", "haiku", "guru", "tutu", "caribou", "bayou", "tiramisu", "zebu", "flu"})
LONGEST = 40  # characters of a word that is looked at; no noun is longer


def singular(word: str) -> str:
    """The dictionary form of a noun in lower case: "skis" is "ski", "glasses" is "glass", "bus" stays.

    Of a word with hyphens the last part is changed: "wall-tiles" is "wall-tile". A form of possession loses its ending.
    """
    before, hyphen, last = word.removesuffix("'s").rpartition("-")
    return before + hyphen + (_singular(last) if len(last) <= LONGEST else last)


def _singular(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("men") and len(word) > 5 and word not in ("specimen", "abdomen", "acumen", "regimen"):
        return f"{word[:-3]}man"  # snowmen, policewomen
    if not word.endswith("s") or word.endswith("ss") or word in UNCHANGED or len(word) < 3:
        return word
    for ending, rule in RULES:
        if word.endswith(ending):
            return rule(word)
    return word[:-1]


def _either(stem: str, known: frozenset[str], added: tuple[str, ...], otherwise: str) -> str:
    """The word of `known` that is the stem with one of these endings, else `otherwise`."""
    return next((stem + ending for ending in added if stem + ending in known), otherwise)


RULES = (  # the first of which an ending fits
    ("ves", lambda word: _either(word[:-3], OF_VES, ("f", "fe"), word[:-1])),
    ("ies", lambda word: _either(word[:-1], OF_IES, ("",), f"{word[:-3]}y" if len(word) > 4 else word[:-1])),
    ("oes", lambda word: _either(word[:-1], OF_OES, ("",), word[:-2])),
    ("ches", lambda word: _either(word[:-1], OF_CHES_AND_SHES, ("",), word[:-2])),
    (("shes", "xes", "sses", "zzes", "tzes"), lambda word: word[:-2]),
    ("ouses", lambda word: word[:-1]),
    ("uses", lambda word: _either(word[:-1], OF_USES, ("",), word[:-2])),
    ("us", lambda word: _either(word[:-1], OF_US, ("",), word)),
    ("is", lambda word: _either(word[:-1], OF_IS, ("",), word)),
)
