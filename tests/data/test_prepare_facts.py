"""What `prepare` finds out about series beside their values: transforms, static covariates, numbers, zones."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dist_lstm.config.task import TRANSFORMS, Vocabulary
from dist_lstm.data import partition, shards, stationarity
from dist_lstm.data.manifest import load_manifest
from dist_lstm.data.shards import Shards
from dist_lstm.errors import UserError
from tests.preparing import prepare

NAN = np.nan
STEPS = np.arange(120)


def table(folder) -> pd.DataFrame:
    """All rows of the shards, by name."""
    files = [pq.read_table(folder / shard.file) for shard in load_manifest(folder).shards]
    return pa.concat_tables(files).to_pandas().set_index("unique_id")


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(STEPS))


#: Series whose transform is known beforehand; a season has 2 steps.
MIXED = {
    "none": 100 + noise(0),
    "difference": np.cumsum(noise(1)) + 0.5 * STEPS,
    "seasonal_difference": 50 * (STEPS % 2) + noise(2),
    "log1p": np.exp(1 + noise(3)),
    "log1p_difference": 100 * np.exp(STEPS / 20 + 0.1 * noise(4)),
    "log1p_seasonal_difference": np.exp(3 + STEPS / 40 + (STEPS % 2) + 0.05 * noise(5)),
}


@pytest.fixture
def mixed(make_frame) -> pd.DataFrame:
    return make_frame(**MIXED)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_all_series_get_the_transform_that_most_of_them_need(
    transform, cut, make_frame, make_config, tmp_path, monkeypatch
):
    if cut:
        monkeypatch.setattr(partition, "MIB", 1 << 10)
        monkeypatch.setattr(shards, "GROUP_STEPS", 120)
        monkeypatch.setattr(shards, "SHARD_STEPS", 120)
    other = "seasonal_difference" if transform == "none" else "none"
    frame = make_frame(**{f"s{number}": MIXED[transform] * (1 + number) for number in range(5)}, t=MIXED[other])
    manifest = prepare(make_config(data__memory_budget=8), tmp_path / "shards", frame)
    assert len(manifest.shards) == (6 if cut else 1)
    assert table(tmp_path / "shards")["transform"].tolist() == [transform] * 6
    assert (manifest.transforms, manifest.tested) == ({transform: 6}, 6)


def test_a_series_with_negative_values_goes_without_the_log_of_the_others(make_frame, make_config, tmp_path):
    series = {f"s{number}": MIXED["log1p_difference"] * (1 + number) for number in range(5)}
    series["s2"] = -series["s2"]
    manifest = prepare(make_config(), tmp_path / "shards", make_frame(**series))
    assert manifest.transforms == {"difference": 1, "log1p_difference": 4}
    assert table(tmp_path / "shards").loc["s2", "transform"] == "difference"


def test_the_evidence_for_a_transform_is_kept_with_it(mixed, make_config, tmp_path):
    prepare(make_config(), tmp_path / "shards", mixed)
    rows = table(tmp_path / "shards")
    for name, y in MIXED.items():
        actual = stationarity.examine(y[:-12], 2)
        for key in ("adf", "kpss", "seasonal_strength", "spread"):
            np.testing.assert_equal(rows.loc[name, key], getattr(actual, key))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transform_that_is_set_holds_for_all_series_and_nothing_is_tested(
    transform, mixed, make_config, tmp_path
):
    mixed["y"] = mixed["y"].abs()
    manifest = prepare(make_config(data__transform=transform), tmp_path / "shards", mixed)
    rows = table(tmp_path / "shards")
    assert rows["transform"].tolist() == [transform] * 6
    assert (manifest.transforms, manifest.tested) == ({transform: 6}, 0)
    assert rows[["adf", "kpss", "seasonal_strength", "spread"]].isna().all(axis=None)


@pytest.mark.parametrize("transform", [name for name in TRANSFORMS if name.startswith("log1p")])
@pytest.mark.parametrize("position", [0, 119])
def test_a_log_of_negative_values_is_refused_in_one_line(transform, position, mixed, make_config, tmp_path):
    mixed["y"] = mixed["y"].abs()
    mixed.loc[120 + position, "y"] = -2.5
    with pytest.raises(UserError) as error:
        prepare(make_config(data__transform=transform), tmp_path / "shards", mixed)
    other = transform.removeprefix("log1p").removeprefix("_") or "difference"
    assert str(error.value) == (
        f"data.transform: {transform} needs values of at least 0, unique_id 'difference' has -2.5; "
        f"choose auto or {other}"
    )
    assert list(tmp_path.iterdir()) == []


def test_of_many_series_a_sample_is_tested(make_frame, make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(stationarity, "LIMIT", 10)
    walks = {f"w{number}": np.cumsum(noise(number)) + number % 2 * STEPS for number in range(60)}
    manifest = prepare(make_config(), tmp_path / "shards", make_frame(**walks))
    rows = table(tmp_path / "shards")
    assert manifest.tested == rows["kpss"].notna().sum()
    assert 3 < manifest.tested < 25
    assert manifest.transforms == {"difference": 60}


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_statistics_are_of_the_logs_where_the_log_is_taken(transform, mixed, make_config, tmp_path):
    mixed["y"] = mixed["y"].abs()
    prepare(make_config(data__transform=transform), tmp_path / "shards", mixed)
    rows = table(tmp_path / "shards")
    for name, y in MIXED.items():
        train = np.abs(y)[:-12].astype(np.float32).astype(np.float64)
        train = np.log1p(train) if transform == "log1p" else train
        assert rows.loc[name, "mean"] == pytest.approx(train.mean())
        assert rows.loc[name, "std"] == pytest.approx(train.std())
        assert rows.loc[name, "mean_abs"] == pytest.approx(np.abs(train).mean())


def with_statics(frame: pd.DataFrame, **statics: dict) -> pd.DataFrame:
    for name, values in statics.items():
        frame[name] = frame["unique_id"].map(values)
    return frame


CITY = {"a": "Ulm", "b": "Bonn", "c": "Ulm", "d": None}
SIZE = {"a": 1.0, "b": 4.0, "c": NAN, "d": 10.0}


@pytest.fixture
def shops(make_frame, read_rows) -> pd.DataFrame:
    """Four series with a city and a size, some of them missing."""
    frame = make_frame(**{name: STEPS[:30] + position for position, name in enumerate("abcd")})
    return with_statics(frame, city=CITY, size=SIZE)


@pytest.mark.parametrize("cut", [False, True])
def test_static_covariates_are_numbered_and_standardised_over_all_series(
    cut, shops, make_config, tmp_path, monkeypatch
):
    if cut:
        monkeypatch.setattr(partition, "MIB", 1)
        monkeypatch.setattr(shards, "GROUP_STEPS", 1)
        monkeypatch.setattr(shards, "SHARD_STEPS", 1)
    config = make_config(data__memory_budget=4096)
    manifest = prepare(config, tmp_path / "shards", shops)
    assert len(manifest.shards) == (4 if cut else 1)
    assert manifest.categories == {"city": ["Bonn", "Ulm"]}
    mean, deviation = 5.0, np.std([1.0, 4.0, 10.0])
    assert manifest.numbers["size"] == pytest.approx((mean, deviation))
    rows = table(tmp_path / "shards")
    assert rows["static:city"].to_dict() == {"a": 2, "b": 1, "c": 2, "d": 0}
    for name, value in SIZE.items():
        np.testing.assert_allclose(rows.loc[name, "static:size"], (value - mean) / deviation, rtol=1e-6)


def test_a_task_of_the_shards_names_their_static_covariates(shops, make_config, tmp_path):
    manifest = prepare(make_config(), tmp_path / "shards", shops)
    config = make_config(task__freq=1, model__series_embedding=1)
    assert manifest.make_task(config).vocabulary == Vocabulary(4, (("city", 2),), ("size",))


def test_series_that_are_rejected_leave_nothing_in_the_vocabulary(shops, make_config, tmp_path):
    shops.loc[shops["unique_id"] == "b", "y"] = NAN
    manifest = prepare(make_config(), tmp_path / "shards", shops)
    assert manifest.categories == {"city": ["Ulm"]}
    assert manifest.numbers["size"] == pytest.approx((5.5, 4.5))
    assert table(tmp_path / "shards")["series"].to_dict() == {"a": 1, "c": 2, "d": 3}


def test_a_covariate_that_changes_within_a_series_is_refused_and_leaves_nothing(shops, make_config, tmp_path):
    shops.loc[40, "city"] = "Trier"
    with pytest.raises(UserError, match=r"'city' changes within unique_id 'b': 'Bonn' and 'Trier'; give each"):
        prepare(make_config(), tmp_path / "shards", shops)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def trained(shops, make_config, tmp_path):
    """Folder and manifest of the shards a model was trained on."""
    return Shards(tmp_path / "trained", prepare(make_config(), tmp_path / "trained", shops))


@pytest.fixture
def later(make_frame) -> pd.DataFrame:
    """A later table: known series and new ones, in another order, known and unknown cities."""
    frame = make_frame(d=STEPS[:40], aa=STEPS[:9], b=STEPS[:3], z=STEPS[:50])
    return with_statics(
        frame, city={"d": "Bonn", "aa": "Ulm", "b": "Trier", "z": None},
        size={"d": 5.0, "aa": NAN, "b": 100.0, "z": 1.0},
    )  # fmt: skip


def test_a_later_table_keeps_the_numbers_of_its_series_and_new_ones_are_unknown(
    later, trained, make_config, tmp_path
):
    assert table(trained.folder)["series"].to_dict() == {"a": 1, "b": 2, "c": 3, "d": 4}
    prepare(make_config(), tmp_path / "later", later, trained)
    assert table(tmp_path / "later")["series"].to_dict() == {"d": 4, "b": 2, "aa": 0, "z": 0}


def test_a_later_table_keeps_the_vocabulary_and_the_unit_of_numbers(later, trained, make_config, tmp_path):
    manifest = prepare(make_config(), tmp_path / "later", later, trained)
    assert manifest.categories == trained.manifest.categories
    assert manifest.numbers == trained.manifest.numbers
    rows = table(tmp_path / "later")
    assert rows["static:city"].to_dict() == {"d": 1, "aa": 2, "b": 0, "z": 0}
    mean, deviation = trained.manifest.numbers["size"]
    for name, value in {"d": 5.0, "aa": NAN, "b": 100.0, "z": 1.0}.items():
        np.testing.assert_allclose(rows.loc[name, "static:size"], (value - mean) / deviation, rtol=1e-6)


def test_all_series_of_a_later_table_get_the_transform_of_the_training(mixed, make_frame, make_config, tmp_path):
    grows = {f"s{number}": MIXED["log1p_difference"] * (1 + number) for number in range(3)}
    before = Shards(tmp_path / "before", prepare(make_config(), tmp_path / "before", make_frame(**grows)))
    others = {"s0": MIXED["seasonal_difference"], "new": MIXED["none"], "negative": MIXED["difference"] - 100}
    manifest = prepare(make_config(), tmp_path / "later", make_frame(**others), before)
    rows = table(tmp_path / "later")
    expected = {"s0": "log1p_difference", "new": "log1p_difference", "negative": "difference"}
    assert rows["transform"].to_dict() == expected
    assert manifest.tested == 0
    # The model keeps the scale on which it was trained; that of a new series is of the whole of it.
    assert rows.loc["s0", "mean"] == table(before.folder).loc["s0", "mean"]
    assert rows.loc["new", "mean"] == pytest.approx(np.log1p(MIXED["none"]).mean(), rel=1e-5)


def test_new_series_of_a_later_table_are_measured_on_all_steps_and_known_ones_as_they_were(
    later, trained, make_config, tmp_path
):
    prepare(make_config(), tmp_path / "later", later, trained)
    rows, before = table(tmp_path / "later"), table(trained.folder)
    assert rows["max"].to_dict() == {"d": before["max"]["d"], "aa": 8, "b": before["max"]["b"], "z": 49}
    assert rows["kpss"].isna().all()


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "UTC", "+05:30"])
@pytest.mark.parametrize("freq", ["h", "D"])
def test_the_manifest_holds_the_zone_and_the_series_are_on_a_grid_without_one(
    freq, zone, make_frame, make_config, read_rows, tmp_path
):
    frame = make_frame(a=np.arange(60.0), b=np.arange(40.0))
    frame["ds"] = pd.date_range("2024-03-20", periods=60, freq=freq, tz=zone, unit="us")[frame["ds"]]
    manifest = prepare(make_config(), tmp_path / "shards", frame)
    assert (manifest.timezone, manifest.freq, manifest.observed, manifest.steps) == (zone, freq, 100, 100)
    assert load_manifest(tmp_path / "shards").timezone == zone
    start = table(tmp_path / "shards")["start"]
    assert start.dtype == "datetime64[us]"
    first = frame["ds"].iloc[0]
    shown = first.tz_convert("UTC").tz_localize(None) if zone and freq == "h" else first.tz_localize(None)
    assert (start == shown).all()
    assert manifest.make_task(make_config(task__freq=freq)).timezone == zone


def test_a_later_table_must_have_the_time_zone_of_training(make_frame, make_config, read_rows, tmp_path):
    def table(freq: str, zone: str | None) -> pd.DataFrame:
        frame = make_frame(a=np.arange(60.0))
        return frame.assign(ds=pd.date_range("2024-03-01", periods=60, freq=freq, tz=zone, unit="us"))

    zones = [None, "Europe/Berlin", "UTC"]
    for freq in ("h", "D"):
        for before in zones:
            folder = tmp_path / f"{freq} {before}".replace("/", "-")
            trained = Shards(folder, prepare(make_config(), folder, table(freq, before)))
            for number, zone in enumerate(zones):
                into = folder.with_name(f"{folder.name} {number}")
                # An hour is an hour in every zone.
                if zone == before or (freq == "h" and None not in (zone, before)):
                    assert prepare(make_config(), into, table(freq, zone), trained).series == 1
                    continue
                with pytest.raises(UserError) as error:
                    prepare(make_config(), into, table(freq, zone), trained)
                assert str(error.value) == (
                    f"data.path: the time stamps have the time zone {zone}, those the model was trained on "
                    f"{before}; convert them to that"
                )
