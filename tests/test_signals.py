"""Signals wait for the end of the block."""

import signal
import threading

import pytest

from dist_lstm.signals import HeldSignals


@pytest.fixture
def heard():
    """The signals that come through, with handlers that only note them."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in (2, 15)}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_earlier_handler_at_the_end_of_the_block(heard, number):
    handler = signal.getsignal(number)

    def block() -> None:
        with HeldSignals() as held:
            assert held.number is None
            signal.raise_signal(number)
            assert held.number == number
            assert heard == []

    with pytest.raises(SystemExit, match=str(128 + number)):
        block()
    assert heard == [number]
    assert signal.getsignal(number) is handler


def test_a_second_ctrl_c_does_not_wait(heard):
    def block() -> None:
        with HeldSignals():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert heard == []


def test_without_a_signal_nothing_happens(heard):
    with HeldSignals() as held:
        pass
    assert held.number is None
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_a_signal_that_is_ignored_stays_ignored(heard):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with HeldSignals() as held:
        signal.raise_signal(signal.SIGINT)
    assert held.number is None


def test_an_error_of_the_block_is_raised(heard):
    def block() -> None:
        with HeldSignals():
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        block()
    assert heard == []


def test_a_thread_other_than_the_main_one_holds_no_signal(heard):
    numbers = []

    def block() -> None:
        with HeldSignals() as held:
            numbers.append(held.number)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert numbers == [None]
