"""Checkpoints: whole, the last few kept, a damaged one passed over."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest

from dist_lstm.errors import UserError
from dist_lstm.train.checkpoint import Checkpoints

ARRAYS = {"variable/0": np.arange(6, dtype=np.float32).reshape(2, 3), "best/0": np.array(7, np.int64)}


def make(folder: Path, keep: int = 3, phase: str = "train") -> tuple[Checkpoints, list[str]]:
    said: list[str] = []
    return Checkpoints(folder, phase, keep, said.append), said


def names(folder: Path) -> list[str]:
    """Phase and step of each."""
    return sorted(path.name.rpartition("-")[0] for path in (folder / "checkpoints").iterdir())


def test_what_is_saved_is_loaded(tmp_path):
    checkpoints, said = make(tmp_path)
    checkpoints.save(12, {"step": 12, "loss": float("inf"), "names": ["ä"]}, ARRAYS)
    progress, arrays = make(tmp_path)[0].load()
    assert progress == {"step": 12, "loss": float("inf"), "names": ["ä"]}
    assert arrays.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].dtype == values.dtype
    assert said == []


def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path):
    assert make(tmp_path)[0].load() is None


def test_the_newest_few_are_kept_and_the_newest_is_loaded(tmp_path):
    checkpoints, _ = make(tmp_path, keep=2)
    for step in (9, 10, 100, 1000):
        checkpoints.save(step, {"step": step}, ARRAYS)
    assert names(tmp_path) == ["train-000000100", "train-000001000"]
    assert checkpoints.load()[0] == {"step": 1000}


def test_each_phase_has_its_own(tmp_path):
    first, second = make(tmp_path, keep=1)[0], make(tmp_path, keep=1, phase="refit")[0]
    first.save(5, {"step": 5}, ARRAYS)
    assert second.load() is None
    second.save(3, {"step": 3}, ARRAYS)
    assert first.load()[0] == {"step": 5}
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_one_is_said_and_the_one_before_it_taken(tmp_path, damage):
    checkpoints, said = make(tmp_path)
    large = {"variable/0": np.random.default_rng(0).normal(size=1000)}
    for step in (1, 2):
        checkpoints.save(step, {"step": step}, large)
    (newest,) = (tmp_path / "checkpoints").glob("train-000000002-*.npz")
    content = bytearray(newest.read_bytes())
    content[4000] ^= 1
    newest.write_bytes({"cut": content[:3000], "empty": b"", "flipped": content, "text": b"nothing"}[damage])
    assert checkpoints.load()[0] == {"step": 1}
    (line,) = said
    assert line == f"{newest}: is damaged; going on from the one before it"
    assert checkpoints.load()[0] == {"step": 1}
    assert len(said) == 1


def test_any_damage_is_noticed(tmp_path):
    """One byte of the file after the other is changed."""
    checkpoints, said = make(tmp_path)
    checkpoints.save(1, {"step": 1}, {"variable/0": np.arange(3)})
    (path,) = (tmp_path / "checkpoints").iterdir()
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert checkpoints.load() is None
    assert set(said) == {f"{path}: is damaged; there is none before it: starting anew"}


def test_a_step_that_is_saved_anew_is_loaded_as_it_was_saved_last(tmp_path):
    checkpoints, _ = make(tmp_path)
    for halved in (False, True):
        checkpoints.save(7, {"halved": halved}, ARRAYS)
    assert checkpoints.load()[0] == {"halved": True}


def test_pickled_objects_are_never_written_nor_read(tmp_path):
    checkpoints, _ = make(tmp_path)
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        checkpoints.save(1, {}, {"variable/0": objects})
    content = io.BytesIO()
    np.savez(content, allow_pickle=True, progress=objects)
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / f"checkpoints/train-000000001-{digest}.npz").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="allow_pickle=False"):
        checkpoints.load()


def test_a_checkpoint_that_can_not_be_written_leaves_those_before_it(tmp_path, monkeypatch):
    checkpoints, _ = make(tmp_path, keep=1)
    checkpoints.save(1, {"step": 1}, ARRAYS)

    def full(path, content):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"train-000000002-\w+\.npz: can't be written: No space left on device"):
        checkpoints.save(2, {"step": 2}, ARRAYS)
    assert names(tmp_path) == ["train-000000001"]
    assert checkpoints.load()[0] == {"step": 1}
