"""At least 1,000 malformed requests: each is refused by a sentence, and afterwards the page works as before."""

from collections.abc import Iterator

import pytest

from tests.attack.judging import try_all
from tests.attack.requests import GOOD, TABLES, every_case
from tests.attack.server import HANG_SECONDS, Page, Server, Visitor, started

pytestmark = [pytest.mark.attack, pytest.mark.timeout(3600)]
GROWTH = 500e6  # bytes of resident memory between the first request and any later one


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def before(server: Server) -> tuple[object, int]:
    """What a run that is right gives before all requests, and the resident memory then."""
    return masks(server), server.memory()


def masks(server: Server) -> object:
    """What a run gives that is right."""
    visitor = Visitor(server.address, patience=10 * HANG_SECONDS)  # the networks are loaded first
    answer = visitor.call("compare", [visitor.upload(GOOD), "cat, car", ["diffsegmenter", "grounded-diffusion"]])
    assert answer.is_good, answer
    return [result["masks"] for result in answer.values[0]["results"]]


def test_there_are_a_thousand(server: Server) -> None:
    assert len(every_case(Page(Visitor(server.address)))) >= 1000


@pytest.mark.parametrize("table", TABLES)
def test_malformed_requests_are_refused_by_sentences(table: str, server: Server, before: tuple[object, int]) -> None:
    page, (shown, memory) = Page(Visitor(server.address)), before
    figures = try_all(server.address, TABLES[table](page), page)
    after = server.memory()
    print(f"\n{figures.table()}\n\nResident memory: {memory / 1e6:.0f} MB before, {after / 1e6:.0f} MB after.")
    assert server.is_alive() and not figures.faults, "\n".join(figures.examples[:200])
    assert masks(server) == shown
    assert after < memory + GROWTH
