"""Series to Parquet and back, and their statistics against NumPy one series at a time."""

import hashlib
import math
import os
import re
import warnings
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_lstm.config.task import TRANSFORMS
from dist_lstm.data import integrity
from dist_lstm.data.integrity import checksum
from dist_lstm.data.panel import Panel
from dist_lstm.data.shards import Shards, ShardWriter, read_panel, statistics
from dist_lstm.errors import UserError


def oracle(values: np.ndarray, season: int) -> dict[str, float]:
    """Statistics of one series with NumPy's functions that skip NaN."""
    values = values.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of means of nothing
        quarter, median, three = np.nanpercentile(values, [25, 50, 75]) if len(values) else [np.nan] * 3
        return {
            "mean": np.nanmean(values),
            "std": np.nanstd(values),
            "min": np.nanmin(values) if len(values) else np.nan,
            "max": np.nanmax(values) if len(values) else np.nan,
            "median": median,
            "iqr": three - quarter,
            "mean_abs": np.nanmean(np.abs(values)),
            "seasonal_difference": np.nanmean(np.abs(values[season:] - values[:-season])),
        }


NO_LOG = np.zeros(2, bool)
VALUES = st.lists(st.floats(-1e6, 1e6, width=32) | st.just(np.nan), min_size=1, max_size=30)


@settings(deadline=None, max_examples=100)
@given(
    series=st.lists(st.tuples(VALUES, st.integers(0, 35), st.booleans()), min_size=1, max_size=5),
    season=st.integers(1, 4),
)
def test_statistics_equal_numpy_one_series_at_a_time(series, season):
    values = [np.array(one, np.float32) for one, _, _ in series]
    end = np.array([min(last, len(one)) for one, last, _ in series])
    logged = np.array([log for _, _, log in series])
    offset = np.concatenate([[0], np.cumsum([len(one) for one in values])])
    panel = Panel(
        np.arange(len(values)).astype(str), np.zeros(len(values), np.int64), np.concatenate(values), offset
    )
    actual = statistics(panel, end, season, logged)
    for number, (one, last, log) in enumerate(zip(values, end, logged, strict=True)):
        logs = [math.copysign(math.log1p(abs(value)), value) for value in one[:last].tolist()]
        expected = oracle(np.array(logs) if log else one[:last], season)
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name][number], value, rtol=1e-9, atol=1e-6, err_msg=name)


def test_a_constant_series_has_no_spread_and_large_values_keep_theirs(make_panel_of):
    actual = statistics(make_panel_of(np.full(9, 5.0), 1e7 + np.arange(9)), np.array([9, 9]), 2, NO_LOG)
    assert [actual[name][0] for name in ("mean", "median", "min", "max")] == [5, 5, 5, 5]
    assert [actual[name][0] for name in ("std", "iqr", "seasonal_difference")] == [0, 0, 0]
    assert actual["std"][1] == pytest.approx(np.std(np.arange(9)))


def test_statistics_of_nothing_are_nan(make_panel_of):
    actual = statistics(
        make_panel_of([np.nan, np.nan], [1.0, 2.0], [3.0]), np.array([2, 0, 1]), 1, np.zeros(3, bool)
    )
    for name, values in actual.items():
        assert np.isnan(values[:2]).all(), name
    assert np.isnan(actual["seasonal_difference"][2])
    assert actual["mean"][2] == 3


@pytest.fixture
def odd_panel() -> Panel:
    """Ten series with NaN, extreme values and names that need care."""
    generator = np.random.default_rng(1)
    lengths = [1, 7, 3, 12, 2, 9, 30, 1, 4, 5]
    y = (generator.normal(size=74) * 10.0 ** generator.integers(-30, 30, 74)).astype(np.float32)
    y[generator.random(len(y)) < 0.3] = np.nan
    y[:5] = [np.finfo(np.float32).max, np.finfo(np.float32).tiny, 1e-45, -0.0, np.nan]
    names = np.array(["", " ", "ü/ö", "a\nb", "0", "00", "x" * 1000, "'", '"', "日本"], object)
    start = np.datetime64("2024-02-29T23:59:59.000001", "us") + np.arange(10)
    return Panel(names, start, y, np.concatenate([[0], np.cumsum(lengths)]))


def same(left: Panel, right: Panel) -> None:
    assert left.unique_id.tolist() == right.unique_id.tolist()
    assert left.start.dtype == right.start.dtype
    assert left.start.tolist() == right.start.tolist()
    assert left.offset.tolist() == right.offset.tolist()
    assert left.y.dtype == right.y.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(left.y), np.isnan(right.y))
    seen = ~np.isnan(left.y)
    assert left.y[seen].tobytes() == right.y[seen].tobytes()


def joined(panels: list[Panel]) -> Panel:
    length = np.concatenate([panel.length for panel in panels])
    return Panel(
        np.concatenate([panel.unique_id for panel in panels]),
        np.concatenate([panel.start for panel in panels]),
        np.concatenate([panel.y for panel in panels]),
        np.concatenate([[0], np.cumsum(length)]),
    )


@pytest.mark.parametrize(
    ("group_steps", "shard_steps"), [(1 << 20, 1 << 24), (10, 1 << 24), (10, 20), (1, 1), (5, 8)]
)
def test_series_come_back_bit_for_bit_however_they_are_cut(
    group_steps, shard_steps, odd_panel, write_panel, make_task
):
    folder, manifest = write_panel(odd_panel, make_task(), group_steps, shard_steps)
    same(joined([panel for _, panels in Shards(folder, manifest).panels_by_file() for panel in panels]), odd_panel)


@pytest.mark.parametrize("start", [np.array([5, -3], np.int64), np.array(["2024-01-01", "1901-05-05"], "M8[us]")])
def test_starts_may_be_steps_or_time_stamps(start, write_panel, make_task):
    panel = Panel(np.array(["a", "b"], object), start, np.ones(4, np.float32), np.array([0, 1, 4]))
    folder, manifest = write_panel(panel, make_task())
    same(read_panel(Shards(folder, manifest).row_groups()[0]), panel)


def test_a_new_file_begins_when_one_is_full(odd_panel, write_panel, make_task):
    folder, manifest = write_panel(odd_panel, make_task(), group_steps=10, shard_steps=20)
    assert len(manifest.shards) > 1
    assert all(shard.steps >= 20 for shard in manifest.shards[:-1])
    assert sorted(path.name for path in folder.iterdir()) == [shard.file for shard in manifest.shards]
    names = [name for name, _ in Shards(folder, manifest).panels_by_file()]
    assert names == [shard.file for shard in manifest.shards]


def test_a_row_group_is_about_as_large_as_it_may_be(numbered_panel, write_panel, make_task):
    folder, manifest = write_panel(numbered_panel(*[4] * 25), make_task(), group_steps=20)
    assert [group.series for group in Shards(folder, manifest).row_groups()] == [5] * 5


def test_the_manifest_of_a_shard_describes_its_file(odd_panel, write_panel, make_task):
    folder, manifest = write_panel(odd_panel, make_task(), group_steps=10, shard_steps=20)
    for shard in manifest.shards:
        path = folder / shard.file
        table = pq.read_table(path)
        assert shard.series == table.num_rows
        assert shard.steps == sum(table["length"].to_pylist()) == sum(map(len, table["y"].to_pylist()))
        assert shard.bytes == path.stat().st_size
        assert shard.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == checksum(path)
    assert sum(shard.series for shard in manifest.shards) == len(odd_panel.unique_id)


def test_row_groups_hold_the_lengths_of_their_series(odd_panel, write_panel, make_task):
    folder, manifest = write_panel(odd_panel, make_task(), group_steps=10, shard_steps=20)
    groups = Shards(folder, manifest).row_groups()
    assert len(groups) > len(manifest.shards) > 1
    assert np.concatenate([group.length for group in groups]).tolist() == odd_panel.length.tolist()
    for group in groups:
        assert group.series == len(group.length) == len(read_panel(group).unique_id)


def test_statistics_are_columns_of_the_shard_and_missing_values_are_null(odd_panel, write_panel, make_task):
    folder, manifest = write_panel(odd_panel, make_task(validation=2, test=2), group_steps=10)
    table = pa.concat_tables([pq.read_table(folder / shard.file) for shard in manifest.shards])
    end = np.maximum(odd_panel.length - 4, 0)
    for name, values in statistics(odd_panel, end, 2, np.zeros(10, bool)).items():
        expected = [None if np.isnan(value) else value for value in values]
        assert table[name].to_pylist() == expected
    assert table["y"].combine_chunks().flatten().null_count == np.isnan(odd_panel.y).sum()
    assert table.schema.field("y").type == pa.list_(pa.float32())


@pytest.mark.parametrize(("group_steps", "shard_steps"), [(1 << 20, 1 << 24), (10, 20), (1, 1)])
def test_facts_of_any_type_come_back_with_their_series(
    group_steps, shard_steps, odd_panel, write_panel, make_task
):
    names = odd_panel.unique_id
    facts = {
        "transform": np.array([*TRANSFORMS, *TRANSFORMS][:10], object),
        "static:city": np.array([None, "", "NA", "nan", "ü", "a", "a", None, "b", "c"], object),
        "static:size": np.arange(10, dtype=np.float32) / 3,
        "series": np.arange(10) + 1,
        "kpss": np.where(np.arange(10) % 3 == 0, np.nan, np.arange(10) / 7),
        "static:kind": np.arange(10, dtype=np.int32),
    }
    folder, manifest = write_panel(replace(odd_panel, facts=facts), make_task(), group_steps, shard_steps)
    seen = 0
    for _, panels in Shards(folder, manifest).panels_by_file():
        for panel in panels:
            for row, name in enumerate(panel.unique_id):
                at, seen = names.tolist().index(name), seen + 1
                for key, values in facts.items():
                    assert panel.facts[key].dtype == values.dtype
                    np.testing.assert_equal(panel.facts[key][row], values[at])
    assert seen == 10


def test_text_that_is_null_everywhere_comes_back_as_none(numbered_panel, write_panel, make_task):
    panel = replace(numbered_panel(3, 4), facts={"static:city": np.array([None, None], object)})
    folder, manifest = write_panel(panel, make_task())
    assert read_panel(Shards(folder, manifest).row_groups()[0]).facts["static:city"].tolist() == [None, None]


def test_panels_written_one_by_one_follow_each_other(numbered_panel, tmp_path):
    panel = numbered_panel(3, 4, 5)
    with ShardWriter(tmp_path / "one by one") as writer:
        for number in range(3):
            writer.write(panel.take(np.arange(3) == number))
        writer.write(panel.take(np.zeros(3, bool)))
    assert [(shard.series, shard.steps) for shard in writer.shards] == [(3, 12)]


def test_nothing_written_leaves_no_file(tmp_path):
    with ShardWriter(tmp_path / "none") as writer:
        pass
    assert writer.shards == []
    assert list((tmp_path / "none").iterdir()) == []


def remove(path) -> None:
    path.unlink()


def shorten(path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def overwrite(path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def flip_in(path, column: str, share: float) -> None:
    """Flip a bit in the data of a column of a Parquet file, after a share of it."""
    content = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = map(group.column, range(group.num_columns))
    chunk = next(one for one in chunks if one.path_in_schema.startswith(column))
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content[first + int(chunk.total_compressed_size * share)] ^= 1
    path.write_bytes(content)


def flip_values(path) -> None:
    flip_in(path, "y", share=0.5)


def flip_lengths(path) -> None:
    flip_in(path, "length", share=0.99)


def be_a_folder(path) -> None:
    path.unlink()
    path.mkdir()


def change_the_footer(path) -> None:
    """Another valid file of the same size: only a checksum of the whole file shows it."""
    content = path.read_bytes()
    other = re.sub(rb"parquet-cpp-arrow version \d", b"parquet-cpp-arrow version 0", content)
    assert other != content
    path.write_bytes(other)
    assert pq.read_table(path).num_rows


CHECKSUM = r"its SHA-256 begins with \w{8}, its manifest says \w{8}"
DAMAGES = {
    remove: "no such file or directory",
    shorten: r"it has [\d,]+ bytes, its manifest says [\d,]+",
    overwrite: CHECKSUM,
    flip_values: CHECKSUM,
    flip_lengths: CHECKSUM,
    change_the_footer: CHECKSUM,
    be_a_folder: ".*",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_or_damaged_shard_is_refused_by_name(damage, number, make_panel_of, write_panel, make_task):
    # Noise is stored as it is: no decompressor would notice a flipped bit of it.
    panel = make_panel_of(*np.random.default_rng(0).normal(size=(40, 50)))
    folder, manifest = write_panel(panel, make_task(), group_steps=1000, shard_steps=1000)
    shards = Shards(folder, manifest)
    damage(folder / manifest.shards[number].file)
    message = rf"part-0000{number}\.parquet: the shard is missing or damaged: {DAMAGES[damage]}; prepare"
    for read in (shards.row_groups, lambda: list(shards.panels()), lambda: shards.read_series(np.array([3, 25]))):
        with pytest.raises(UserError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_series_are_read_while_a_shard_of_others_is_damaged(make_panel_of, write_panel, make_task):
    panel = make_panel_of(*np.random.default_rng(0).normal(size=(40, 50)))
    folder, manifest = write_panel(panel, make_task(), group_steps=1000, shard_steps=1000)
    change_the_footer(folder / manifest.shards[1].file)
    read = Shards(folder, manifest).read_series(np.array([0, 19]))
    assert read.unique_id.tolist() == panel.unique_id[[0, 19]].tolist()


def test_a_process_reads_each_shard_once_to_compare_it_until_it_changes(
    make_panel_of, write_panel, make_task, monkeypatch
):
    panel = make_panel_of(*np.random.default_rng(0).normal(size=(40, 50)))
    folder, manifest = write_panel(panel, make_task(), group_steps=1000, shard_steps=1000)
    compared = []
    monkeypatch.setattr(integrity, "checksum", lambda path: compared.append(path.name) or checksum(path))
    for _ in range(3):
        shards = Shards(folder, manifest)
        list(shards.panels())
        shards.read_series(np.array([30]))
    assert sorted(compared) == ["part-00000.parquet", "part-00001.parquet"]
    path = folder / "part-00001.parquet"
    change_the_footer(path)
    os.utime(path, ns=(0, 0))  # two changes within the clock's resolution would have the same time
    with pytest.raises(UserError, match="SHA-256"):
        Shards(folder, manifest).row_groups()
