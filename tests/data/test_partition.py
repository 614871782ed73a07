"""Rows in any order to tables in which every series is whole, in bounded memory."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from dist_lstm.data import partition as module
from dist_lstm.data.partition import partition
from dist_lstm.errors import UserError


def pieces_of(ids: list[str], size: int) -> list[pa.Table]:
    """Rows that are numbered in `y`, cut into pieces."""
    table = pa.table({"unique_id": pa.array(ids, pa.string()), "y": np.arange(len(ids), dtype=np.float64)})
    return [table.slice(first, size) for first in range(0, len(ids), size)]


def by_series(ids: list[str]) -> dict[str, list[float]]:
    """The numbers of each series' rows, in their order."""
    actual: dict[str, list[float]] = {}
    for row, name in enumerate(ids):
        actual.setdefault(name, []).append(float(row))
    return actual


def shuffled_ids(series: int, rows: int) -> list[str]:
    return np.random.default_rng(3).choice([f"sérié {one}" for one in range(series)], rows).tolist()


@pytest.fixture
def small(monkeypatch):
    """Make a MiB a KiB."""
    monkeypatch.setattr(module, "MIB", 1 << 10)


@pytest.mark.parametrize("budget", [1, 2, 4, 1_000_000])
@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_every_series_comes_back_complete_and_in_order_whatever_the_budget(budget, size, small, tmp_path):
    ids = shuffled_ids(series=400, rows=1500)
    actual: dict[str, list[float]] = {}
    for table in partition(pieces_of(ids, size), budget, tmp_path / "rows"):
        here = by_series(table["unique_id"].to_pylist())
        assert not actual.keys() & here.keys()
        y = table["y"].to_numpy()
        actual |= {name: y[np.asarray(rows, int)].tolist() for name, rows in here.items()}
    assert actual == by_series(ids)


@pytest.mark.parametrize("budget", [1, 1_000_000])
def test_only_what_exceeds_the_budget_is_spilled(budget, small, tmp_path):
    tables = list(partition(pieces_of(shuffled_ids(400, 1500), 100), budget, tmp_path / "rows"))
    assert (tmp_path / "rows").exists() == (budget == 1)
    assert (len(tables) > 1) == (budget == 1)


def test_no_table_from_disk_is_larger_than_the_budget(small, tmp_path):
    for table in partition(pieces_of(shuffled_ids(400, 1500), 100), 1, tmp_path / "rows"):
        assert table.nbytes <= 1 << 10


def test_categories_of_other_pieces_do_not_change_where_a_series_goes(small, tmp_path):
    """The file of a series may not depend on which other series its piece holds."""
    ids = [f"s{row % 50}" for row in range(600)] + [f"s{49 - row % 50}" for row in range(600)]
    seen = Counter(
        name
        for table in partition(pieces_of(ids, 13), 1, tmp_path / "rows")
        for name in table["unique_id"].unique().to_pylist()
    )
    assert set(seen.values()) == {1}
    assert len(seen) == 50


def test_the_memory_held_while_spilling_and_reading_back_stays_near_the_budget(tmp_path):
    rows, size, total = 4096, 400, 0

    def lazily():
        nonlocal total
        for number in range(size // 2):
            names = [f"s{(number + row) % 40}" for row in range(rows)]
            piece = pa.table({"unique_id": names, "y": pa.repeat(0.0, rows)})
            total += piece.nbytes
            yield piece

    pool, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        for _ in partition(lazily(), 1, tmp_path / "rows"):
            pass
    finally:
        pa.set_memory_pool(usual)
    assert total > 8 << 20
    assert 1 << 20 < pool.max_memory() < 3 << 20


def test_a_series_larger_than_the_budget_is_refused_saying_how_much_is_needed(small, tmp_path):
    ids = ["large"] * 1000 + ["small"] * 10
    with pytest.raises(UserError, match=r"data\.memory_budget: 3 MiB are too few") as caught:
        list(partition(pieces_of(ids, 50), 3, tmp_path / "rows"))
    enough = int(str(caught.value).rsplit("raise it to at least ", maxsplit=1)[1])
    assert len(list(partition(pieces_of(ids, 50), enough, tmp_path / "again"))) > 0
    with pytest.raises(UserError):
        list(partition(pieces_of(ids, 50), enough - 1, tmp_path / "less"))


def test_no_rows_give_no_tables(tmp_path):
    assert list(partition([], 1, tmp_path / "rows")) == []
    assert not (tmp_path / "rows").exists()
