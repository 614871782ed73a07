"""What a manifest may say."""

import json

import pytest
from pydantic import ValidationError

from dist_lstm.config.defaults import DatasetStatistics, resolve
from dist_lstm.config.load import parse_config
from dist_lstm.config.task import Vocabulary
from dist_lstm.data.manifest import SCHEMA_VERSION, Manifest, Shard, load_manifest, save_manifest
from dist_lstm.errors import UserError
from dist_lstm.layout import ShardLayout

SHARD = {"file": "part-00000.parquet", "series": 3, "steps": 30, "bytes": 100, "sha256": "ab"}
MANIFEST = {"fingerprint": "f", "freq": "h", "series": 3, "rejected": 1, "steps": 30, "observed": 28,
            "shortest": 5, "median": 10, "longest": 15, "shards": (SHARD,)}  # fmt: skip
FACTS = {"timezone": "Europe/Berlin", "transforms": {"log1p": 1, "none": 2}, "tested": 2,
         "categories": {"city": ["Bonn", "Ulm"], "shop": []}, "numbers": {"size": (1.5, 0.0)}}  # fmt: skip


@pytest.mark.parametrize("freq", ["h", "MS", 1, 7])
def test_a_manifest_is_read_as_it_was_written(freq, tmp_path):
    manifest = Manifest.model_validate(MANIFEST | FACTS | {"freq": freq})
    save_manifest(manifest, tmp_path)
    assert load_manifest(tmp_path) == manifest
    assert type(load_manifest(tmp_path).freq) is type(freq)
    assert load_manifest(tmp_path).statistics == DatasetStatistics(freq, 30, 10, None, "Europe/Berlin", 3)


@pytest.mark.parametrize(
    "name",
    [
        "../x.parquet",
        "/etc/passwd",
        "a/b.parquet",
        "..",
        ".hidden",
        "",
        "a\\b",
        "a\nb",
        "part.parquet\n",
        "~",
        "a b",
    ],
)
def test_a_shard_can_not_lie_outside_the_folder(name, tmp_path):
    with pytest.raises(ValidationError):
        Shard.model_validate(SHARD | {"file": name})
    (tmp_path / ShardLayout.manifest).write_text(
        json.dumps(MANIFEST | {"schema_version": SCHEMA_VERSION, "shards": [SHARD | {"file": name}]})
    )
    with pytest.raises(UserError, match="can't be read as a manifest"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "\xff"])
def test_a_damaged_manifest_is_refused_in_one_line(text, tmp_path):
    (tmp_path / ShardLayout.manifest).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="can't be read as a manifest; prepare the data again") as caught:
        load_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_missing_is_refused(tmp_path):
    with pytest.raises(UserError, match="can't be read as a manifest"):
        load_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1, str(SCHEMA_VERSION), None])
def test_a_manifest_of_another_version_is_refused_naming_both(version, tmp_path):
    (tmp_path / ShardLayout.manifest).write_text(json.dumps(MANIFEST | {"schema_version": version}))
    with pytest.raises(UserError, match=f"has schema version {version}, this program reads {SCHEMA_VERSION}"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("change", [{"surprise": 1}, {"series": "many"}, {"shards": 3}, {"numbers": {"size": 1}}])
def test_a_manifest_with_unexpected_content_is_refused(change, tmp_path):
    (tmp_path / ShardLayout.manifest).write_text(
        json.dumps(MANIFEST | {"schema_version": SCHEMA_VERSION} | change)
    )
    with pytest.raises(UserError, match="can't be read as a manifest"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("key", [key for key in MANIFEST if key != "schema_version"])
def test_a_manifest_that_lacks_something_is_refused(key, tmp_path):
    values = {name: value for name, value in MANIFEST.items() if name != key}
    (tmp_path / ShardLayout.manifest).write_text(json.dumps(values | {"schema_version": SCHEMA_VERSION}))
    with pytest.raises(UserError, match="can't be read as a manifest"):
        load_manifest(tmp_path)


def test_a_task_has_what_the_shards_hold_of_zone_series_and_static_covariates():
    manifest = Manifest.model_validate(MANIFEST | FACTS)
    values = {"task": {"horizon": 2}, "data": {"path": "a.csv"}, "model": {"series_embedding": 3}}
    task = manifest.make_task(resolve(parse_config(values), manifest.statistics))
    assert task.timezone == "Europe/Berlin"
    assert task.series == 3
    assert task.vocabulary == Vocabulary(3, (("city", 2), ("shop", 0)), ("size",))
