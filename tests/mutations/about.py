"""Bugs in the About tab and in the command that makes its pictures."""

from tests.mutations import Mutant

ABOUT, MAKE, CSS = "ovseg/demo/about_tab.py", "ovseg/demo/make_about.py", "ovseg/demo/static/about/about.css"

MUTANTS = (
    Mutant(
        "pictures say nothing to those who cannot see them", ABOUT,
        "alt=\"{escape(step[\"alt\"])}\"", "alt=\"\"",
        ("tests/test_about.py::test_every_picture_says_what_it_shows",),
    ),
    Mutant(
        "the paper's link is lost", ABOUT,
        "https://arxiv.org/abs/{paper.arxiv}", "https://arxiv.org/abs/",
        ("tests/test_about.py::test_every_method_has_a_text_a_paper_and_a_strip",),
    ),
    Mutant(
        "what the backbone knows is left out", ABOUT,
        '.replace("<!-- backbone -->", knows)', "",
        ("tests/test_about.py::test_the_tab_says_what_the_backbone_knows",),
    ),
    Mutant(
        "pictures may have any size", MAKE,
        "if len(buffer.getvalue()) <= MOST_BYTES:", "if len(buffer.getvalue()) <= 10 * MOST_BYTES:",
        ("tests/test_about.py::test_noise_is_made_to_fit",),
    ),
    Mutant(
        "the noised picture has no noise", MAKE,
        "backbone.decode(backbone.noised(subject.scene.latent, timestep, subject.scene.seed))",
        "backbone.decode(subject.scene.latent)",
        ("tests/test_about.py::test_strips_of_two_methods_are_the_shipped_ones",),
    ),
    Mutant(
        "strips do not wrap on a phone", CSS,
        "grid-template-columns: repeat(2, minmax(0, 1fr));", "grid-template-columns: repeat(5, 150px);",
        ("tests/test_about.py::test_it_looks_right",),
    ),
    Mutant(
        "captions are too pale", CSS,
        "  margin-top: 6px;\n  font-size: 13px;", "  margin-top: 6px;\n  color: #999;\n  font-size: 13px;",
        ("tests/test_about.py::test_it_looks_right",),
    ),
)  # fmt: skip
