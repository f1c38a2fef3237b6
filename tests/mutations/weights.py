"""Bugs that show with published weights: phrases in real vocabularies, names of weights, half precision, old formats."""

from tests.mutations import Mutant

UNET = "ovseg/backbones/stable_diffusion.py"
PHRASES = "tests/test_phrases.py::"
TEMPLATE = PHRASES + "test_the_template_says_where_the_word_is"


def mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(name, file, old, new, tests)


MUTANTS = (
    mutant(
        "the first occurrence of a word is taken for the template's",
        UNET,
        "starts or [None] * len(prompts)",
        "[None] * len(prompts)",
        TEMPLATE,
    ),
    mutant(
        "DiffSegmenter does not say where the class stands",
        "ovseg/methods/diffsegmenter.py",
        "emphasised, starts=starts)",
        "emphasised)",
        PHRASES + "test_methods_and_queries_ask_for_the_words_place",
    ),
    mutant(
        "queries do not say where the word stands",
        "ovseg/backbones/base.py",
        "list(words), starts=starts)",
        "list(words))",
        PHRASES + "test_methods_and_queries_ask_for_the_words_place",
    ),
    mutant(
        "attention is gathered at the first occurrence",
        UNET,
        "[phrase] * len(seeds), starts=[start] * len(seeds))",
        "[phrase] * len(seeds))",
        PHRASES + "test_attention_is_gathered_at_the_words_own_place",
    ),
    mutant("curly apostrophes are three tokens", UNET, "plain = [prompt.translate(QUOTES)", "plain = [prompt", TEMPLATE),
    mutant(
        "long prompts are cut without a word",
        UNET,
        "if (tokens := self._tokens_of(prompt)) > self._room",
        "if (tokens := self._tokens_of(prompt)) > 2 * self._room",
        PHRASES + "test_what_does_not_fit_is_said",
    ),
    mutant(
        "the negative prompt is cut without a word",
        UNET,
        "self._tokens_of(sampling.negative)",
        "self._tokens_of(prompt)",
        PHRASES + "test_what_does_not_fit_is_said",
    ),
    mutant(
        "CLIP's prompts are cut without a word",
        "ovseg/pretrained/clip.py",
        "if not set(row[room - 1 :].tolist()) <= filler",
        "if not set(row[room:].tolist()) <= filler",
        PHRASES + "test_what_does_not_fit_is_said",
        PHRASES + "test_what_open_clips_own_tokenizer_would_cut_is_said",
    ),
    mutant(
        "a unicorn has the article of its spelling",
        "ovseg/words/classes.py",
        "and not CONSONANT_SOUND.match(word)",
        "",
        PHRASES + "test_articles_follow_the_sound",
    ),
    mutant(
        "a continued prompt is repeated where hyphens were taken apart",
        "ovseg/pretrained/captioner.py",
        "for letter in apart if not letter.isspace() and not",
        "for letter in apart if not",
        PHRASES + "test_a_continued_prompt_begins_letter_for_letter_with_it",
    ),
)
