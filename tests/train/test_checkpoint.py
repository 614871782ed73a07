"""Checkpoints: read back by name, the last few kept, a damaged one skipped, one of other variables refused."""

import hashlib
import io
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from dist_lstm.config.training import TrainSettings
from dist_lstm.errors import UserError
from dist_lstm.model.lstm import build_model
from dist_lstm.train.checkpoint import Checkpoint, Checkpoints
from dist_lstm.train.progress import Progress
from dist_lstm.train.state import TrainState, make_train_state, read_values
from tests.conftest import ROOT
from tests.model.test_lstm import TASK, settings

VARIABLES = {
    "model/one": keras.Variable(np.arange(6).reshape(2, 3), dtype="float32"),
    "model/two": keras.Variable(-np.arange(6).reshape(2, 3), dtype="float32"),
    "optimizer/iteration": keras.Variable(7, dtype="int64"),
}
WEIGHTS = {name: VARIABLES[name] for name in ("model/one", "model/two")}


def make(folder: Path, keep: int = 3, phase: str = "train") -> tuple[Checkpoints, list[str]]:
    lines: list[str] = []
    return Checkpoints(folder, phase, keep, lines.append), lines


def at_step(step: int, **changes: object) -> Checkpoint:
    return Checkpoint(Progress(step=step, **changes), read_values(VARIABLES), read_values(WEIGHTS))


def load(checkpoints: Checkpoints) -> Checkpoint | None:
    return checkpoints.load(VARIABLES, WEIGHTS)


def loaded_step(checkpoints: Checkpoints) -> int:
    checkpoint = load(checkpoints)
    assert checkpoint is not None
    return checkpoint.progress.step


def names(folder: Path) -> list[str]:
    """Phase and step of each."""
    return sorted(path.name.rpartition("-")[0] for path in (folder / "checkpoints").iterdir())


def test_what_is_saved_is_loaded(tmp_path):
    checkpoints, lines = make(tmp_path)
    saved = at_step(12, best_loss=float("inf"), halved=True)
    checkpoints.save(saved)
    checkpoint = load(make(tmp_path)[0])
    assert checkpoint.progress == saved.progress
    for got, expected in ((checkpoint.variables, saved.variables), (checkpoint.best, saved.best)):
        assert list(got) == list(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(got[name], values)
            assert got[name].dtype == values.dtype
    assert lines == []


def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path):
    assert load(make(tmp_path)[0]) is None


def test_the_newest_few_are_kept_and_the_newest_is_loaded(tmp_path):
    checkpoints, _ = make(tmp_path, keep=2)
    for step in (9, 10, 100, 1000):
        checkpoints.save(at_step(step))
    assert names(tmp_path) == ["train-000000100", "train-000001000"]
    assert loaded_step(checkpoints) == 1000


def test_each_phase_has_its_own(tmp_path):
    first, second = make(tmp_path, keep=1)[0], make(tmp_path, keep=1, phase="refit")[0]
    first.save(at_step(5))
    assert load(second) is None
    second.save(at_step(3))
    assert loaded_step(first) == 5
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_one_is_reported_and_the_one_before_it_loaded(tmp_path, damage):
    checkpoints, lines = make(tmp_path)
    for step in (1, 2):
        checkpoints.save(at_step(step))
    (newest,) = (tmp_path / "checkpoints").glob("train-000000002-*.npz")
    content = bytearray(newest.read_bytes())
    content[900] ^= 1
    newest.write_bytes({"cut": content[:700], "empty": b"", "flipped": content, "text": b"nothing"}[damage])
    assert loaded_step(checkpoints) == 1
    (line,) = lines
    assert line == f"{newest}: is damaged; going on from the one before it"
    assert loaded_step(checkpoints) == 1
    assert len(lines) == 1


def test_any_damage_is_noticed(tmp_path):
    """Each byte of the file is changed in turn."""
    checkpoints, lines = make(tmp_path)
    checkpoints.save(at_step(1))
    (path,) = (tmp_path / "checkpoints").iterdir()
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert load(checkpoints) is None
    assert set(lines) == {f"{path}: is damaged; there is none before it: starting anew"}


def test_a_step_that_is_saved_again_is_loaded_as_it_was_saved_last(tmp_path):
    checkpoints, _ = make(tmp_path)
    for halved in (False, True):
        checkpoints.save(at_step(7, halved=halved))
    assert load(checkpoints).progress.halved


def test_pickled_objects_are_never_written_nor_read(tmp_path):
    checkpoints, _ = make(tmp_path)
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        checkpoints.save(Checkpoint(Progress(), {"model/one": objects}, {}))
    content = io.BytesIO()
    np.savez(content, allow_pickle=True, progress=objects)
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / f"checkpoints/train-000000001-{digest}.npz").write_bytes(content.getvalue())
    with pytest.raises(UserError, match="allow_pickle=False"):
        load(checkpoints)


def test_a_checkpoint_that_can_not_be_written_leaves_those_before_it(tmp_path, monkeypatch):
    checkpoints, _ = make(tmp_path, keep=1)
    checkpoints.save(at_step(1))

    def full(path, content):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"train-000000002-\w+\.npz: can't be written: No space left on device"):
        checkpoints.save(at_step(2))
    assert names(tmp_path) == ["train-000000001"]
    assert loaded_step(checkpoints) == 1


ONE, TWO, ITERATION = VARIABLES.items()
OTHER = ("model/three", ONE[1])


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ([("model/one", keras.Variable(np.zeros((3, 2)), dtype="float32")), TWO, ITERATION],
         "variable model/one is float32 [2, 3] in the checkpoint, expected float32 [3, 2]"),
        ([ONE, ("model/two", keras.Variable(np.zeros((2, 3)), dtype="float64")), ITERATION],
         "variable model/two is float32 [2, 3] in the checkpoint, expected float64 [2, 3]"),
        ([OTHER, TWO, ITERATION], "the checkpoint has no variable model/three"),
        ([ONE, TWO, ITERATION, OTHER], "the checkpoint has no variable model/three"),
        ([ONE, ITERATION], "the checkpoint has a variable model/two, which this model does not have"),
    ],
    ids=["shape", "dtype", "another name", "one more", "one less"],
)  # fmt: skip
def test_a_checkpoint_of_other_variables_is_refused_and_the_first_is_named(tmp_path, variables, problem):
    checkpoints, _ = make(tmp_path)
    checkpoints.save(at_step(1))
    with pytest.raises(UserError) as error:
        checkpoints.load(dict(variables), {})
    advice = "finish the run with the version that began it, or delete this folder to train anew"
    assert str(error.value) == f"{tmp_path / 'checkpoints'}: {problem}; {advice}"


def test_variables_in_another_order_are_loaded_by_name(tmp_path):
    """Two have the same shape and dtype: by position they would be exchanged."""
    checkpoints, _ = make(tmp_path)
    checkpoints.save(at_step(1))
    reordered = dict(reversed(VARIABLES.items()))
    loaded = checkpoints.load(reordered, WEIGHTS)
    for name, variable in VARIABLES.items():
        np.testing.assert_array_equal(loaded.variables[name], variable.numpy())


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path, monkeypatch):
    checkpoints, _ = make(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("dist_lstm.train.checkpoint._FORMAT", 3)
        checkpoints.save(at_step(1))
    with pytest.raises(UserError, match="the checkpoint has format 3, this version reads 2; finish the run with"):
        load(checkpoints)


def make_state(**changes: object) -> TrainState:
    train = TrainSettings(batch_size=16, learning_rate=0.01, max_steps=20, ema=0.9)
    return make_train_state(lambda: build_model(TASK, settings(**changes)), train, tf.distribute.get_strategy())


ARCHITECTURES = [
    {"decoder": "recursive", "bidirectional": True},
    {"units": (4, 3), "decoder": "segment", "residual": True},
    {"units": (4, 4), "bidirectional": True, "residual": True},
]


@pytest.mark.parametrize("changes", ARCHITECTURES, ids=["recursive", "segment", "bidirectional"])
def test_names_of_variables_are_those_of_a_model_built_before_in_the_process(changes):
    first, second = make_state(dropout=0.1, **changes).variables, make_state(dropout=0.1, **changes).variables
    assert list(first) == list(second)
    assert not [name for name in first if re.search(r"seed_generator_\d+/|feedback_cell_\d|adam_w", name)]


def test_a_model_whose_layers_of_equal_shapes_were_exchanged_is_refused(tmp_path):
    checkpoints, _ = make(tmp_path)
    state = make_state(units=(4, 4), residual=True)
    checkpoints.save(Checkpoint(Progress(step=3), read_values(state.variables), {}))
    renamed = {"lstm_0": "lstm_1", "lstm_1": "lstm_9"}

    def current(variables: dict[str, keras.Variable]) -> dict[str, keras.Variable]:
        return {re.sub(r"lstm_\d", lambda name: renamed[name[0]], one): value for one, value in variables.items()}

    with pytest.raises(UserError, match=r"expected float32 \[|has no variable model/lstm_9/lstm_cell/kernel"):
        checkpoints.load(current(state.variables), current(state.weights))


def test_a_checkpoint_of_version_0_1_0_has_its_variables_by_position(tmp_path):
    checkpoints, _ = make(tmp_path)
    values = read_values(VARIABLES)
    arrays = {f"variable/{number}": value for number, value in enumerate(values.values())}
    arrays |= {f"best/{number}": values[name] for number, name in enumerate(WEIGHTS)}
    (old,) = (ROOT / "tests/compatibility/0.1.0/interrupted/checkpoints").glob("*-000000038-*")
    with np.load(old) as file:
        arrays["progress"] = file["progress"]
    content = io.BytesIO()
    np.savez(content, **arrays)
    (tmp_path / "checkpoints").mkdir()
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    (tmp_path / f"checkpoints/train-000000038-{digest}.npz").write_bytes(content.getvalue())
    loaded = load(checkpoints)
    assert loaded.progress.step == 38
    for name, value in values.items():
        np.testing.assert_array_equal(loaded.variables[name], value)
    with pytest.raises(UserError, match="the checkpoint has 3 variables, expected 2; finish the run with"):
        checkpoints.load({"model/one": VARIABLES["model/one"], "model/two": VARIABLES["model/two"]}, WEIGHTS)
