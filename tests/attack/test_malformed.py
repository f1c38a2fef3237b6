"""At least 1,000 malformed requests: each is refused by a sentence, and afterwards the page works as before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.judging import try_all
from tests.attack.requests import GOOD, every_case
from tests.attack.server import Page, Server, Visitor, started

pytestmark = [pytest.mark.attack, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("server")) as running:
        yield running


def masks(server: Server) -> object:
    """What a run gives that is right."""
    visitor = Visitor(server.address)
    answer = visitor.call("compare", [visitor.upload(GOOD), "cat, car", ["diffsegmenter", "grounded-diffusion"]])
    assert answer.is_good, answer
    return [result["masks"] for result in answer.values[0]["results"]]


def test_malformed_requests_are_refused_by_sentences(server: Server) -> None:
    before, page = masks(server), Page(Visitor(server.address))
    memory, cases = server.memory(), every_case(page)
    assert len(cases) >= 1000
    figures = try_all(server.address, cases, page)
    after = server.memory()
    print(f"\n{figures.table()}\n\nResident memory: {memory / 1e6:.0f} MB before, {after / 1e6:.0f} MB after.")
    Path(server.log.parent / "faults.txt").write_text("\n".join(figures.examples))
    assert server.is_alive() and not figures.faults, "\n".join(figures.examples[:200])
    assert masks(server) == before
    assert after < memory + 500e6
