"""Reading ahead: order, errors, and no more than was asked for."""

import threading

import pytest

from ovseg.read_ahead import DEPTH, read_ahead


def test_items_come_in_order_with_what_was_read_of_them() -> None:
    threads = set()

    def read(number: int) -> int:
        threads.add(threading.get_ident())
        return number**2

    assert [(item, future.result(60)) for item, future in read_ahead(range(7), read)] == [(k, k * k) for k in range(7)]
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_the_next_ones_are_read_meanwhile_and_no_more() -> None:
    begun = [threading.Event() for _ in range(6)]

    def read(number: int) -> None:
        begun[number].set()

    reading = read_ahead(range(6), read)
    _, first = next(reading)
    first.result(60)
    assert begun[DEPTH - 1].wait(60) and not any(event.is_set() for event in begun[DEPTH:])
    reading.close()


def test_what_reading_raises_is_raised_where_it_is_asked_for() -> None:
    def read(number: int) -> int:
        if number == 1:
            raise ValueError("damaged")
        return number

    pairs = list(read_ahead(range(3), read))
    assert pairs[0][1].result(60) == 0 and pairs[2][1].result(60) == 2
    with pytest.raises(ValueError, match="damaged"):
        pairs[1][1].result(60)
