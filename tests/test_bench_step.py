"""The ratios of `bench_step.py`."""

import io

import pytest
from rich.console import Console

from benchmarks.bench_step import compare, show, verdict


def turns_of(**speeds: list[float]) -> dict:
    """Turns of contenders with one thread, and with two at half the speed."""
    return {
        name: {
            threads: [{"windows_per_second": value / threads, "cpu_seconds": 0.1} for value in values]
            for threads in (1, 2)
        }
        for name, values in speeds.items()
    }


def test_a_ratio_compares_turns_of_the_same_round_with_the_faster_number_of_threads():
    ratios = compare(turns_of(framework=[100.0, 90.0, 110.0], bare=[100.0, 100.0, 100.0]))
    assert ratios == {
        "framework / bare": {"threads": [1, 1], "median": 1.0, "least": 0.9, "greatest": 1.1, "target": 0.95}
    }


@pytest.mark.parametrize(
    ("least", "greatest", "expected"),
    [(0.9, 1.1, "about equal"), (1.0, 1.2, "about equal"), (1.01, 1.2, "faster"), (0.5, 0.99, "slower")],
)
def test_two_contenders_are_about_equal_where_the_range_of_their_ratios_includes_1(least, greatest, expected):
    assert verdict({"least": least, "greatest": greatest}) == expected


def test_the_table_shows_every_ratio_with_its_range_and_goal():
    turns, text = turns_of(framework=[100.0, 90.0], bare=[100.0, 100.0]), io.StringIO()
    show({"ratios": compare(turns)}, turns, Console(file=text, width=160))
    (row,) = [line for line in text.getvalue().splitlines() if "framework / bare" in line]
    assert all(part in row for part in ("0.950", "0.900 to 1.000", "about equal", "0.95 reached"))
