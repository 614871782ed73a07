"""Models and checkpoints: saved, and read back. No pickle, and no code, is ever read.

A checkpoint is one file, `checkpoints/PHASE-STEP-DIGEST.npz`, in NumPy's own format. The digest of its content
shows whether it is intact. Its arrays:

    format          version of this layout
    progress        `Progress` as JSON
    variable/NAME   each variable of the training, by the names that `TrainState.variables` gives
    best/NAME       the best weights so far, by the same names; none before the first validation
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

import dist_lstm.model  # noqa: F401 (registers the layers)
from dist_lstm.errors import UserError
from dist_lstm.layout import RunLayout
from dist_lstm.storage import publish, remove
from dist_lstm.train.devices import generators_restored
from dist_lstm.train.process_group import SINGLE_PROCESS, ProcessGroup
from dist_lstm.train.progress import Progress

#: 1, of version 0.1.0, had no such number, and stored variables by position.
_FORMAT = 2


def save_model(model: keras.Model, path: Path) -> None:
    """Publish a model, without optimizer, as a `.keras` file.

    Args:
        model: The model.
        path: The file; its suffix is `.keras`.
    """
    with publish(path) as temporary:
        # Keras chooses the format by the suffix.
        written = temporary.with_suffix(".keras")
        model.save(written, include_optimizer=False)
        written.rename(temporary)


def load_model(path: Path) -> keras.Model:
    """Read a model that `save_model` wrote; code inside the file is never run.

    Args:
        path: The `.keras` file.

    Returns:
        The model, without optimizer.

    Raises:
        UserError: If there is no such file or it is damaged.
    """
    if not path.is_file():
        raise UserError(path, "there is no model", "train one first")
    try:
        with generators_restored():
            return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(path, f"can't be read as a model: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps.

    Attributes:
        progress: Its progress.
        variables: Values of all variables, by name.
        best: Weights after the step with the best validation loss, by name; empty before the first validation.
    """

    progress: Progress
    variables: Mapping[str, np.ndarray]
    best: Mapping[str, np.ndarray]

    def to_bytes(self) -> bytes:
        """The content of its file."""
        arrays = {f"variable/{name}": value for name, value in self.variables.items()}
        arrays |= {f"best/{name}": value for name, value in self.best.items()}
        progress = np.frombuffer(json.dumps(asdict(self.progress)).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, format=np.int64(_FORMAT), progress=progress, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, names: Collection[str], weights: Collection[str]) -> "Checkpoint":
        """Read a file's content.

        Args:
            content: What `to_bytes` gave, or a checkpoint of version 0.1.0.
            names: Names of the variables, in the order in which version 0.1.0 stored them.
            weights: Those of the weights, in the same order.

        Returns:
            The checkpoint.

        Raises:
            ValueError: If its format is of a later version, or it has another number of variables by position.
        """
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        progress, version = Progress.parse(json.loads(arrays.pop("progress").tobytes())), arrays.pop("format", 1)
        variables, best = (
            {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
            for prefix in ("variable/", "best/")
        )
        if version == 1:
            variables, best = _by_name(variables, names), _by_name(best, weights) if best else {}
        elif version != _FORMAT:
            raise ValueError(f"the checkpoint has format {version}, this version reads {_FORMAT}")
        return cls(progress, variables, best)


def _by_name(values: Mapping[str, np.ndarray], names: Collection[str]) -> dict[str, np.ndarray]:
    """Values by position, each with the name of the variable that has this position."""
    if len(values) != len(names):
        raise ValueError(f"the checkpoint has {len(values)} variables, expected {len(names)}")
    return {name: values[str(position)] for position, name in enumerate(names)}


def _require_same(values: Mapping[str, np.ndarray], expected: Mapping[str, keras.Variable]) -> None:
    """Compare names, shapes and dtypes.

    Args:
        values: Values by name.
        expected: The variables they are for.

    Raises:
        ValueError: If they differ; it names the first variable that does.
    """
    for name, variable in expected.items():
        if name not in values:
            raise ValueError(f"the checkpoint has no variable {name}")
        got, here = values[name], (tuple(variable.shape), str(variable.dtype))
        if (got.shape, str(got.dtype)) != here:
            raise ValueError(
                f"variable {name} is {got.dtype} {list(got.shape)} in the checkpoint, "
                f"expected {here[1]} {list(here[0])}"
            )
    for name in values:
        if name not in expected:
            raise ValueError(f"the checkpoint has a variable {name}, which this model does not have")


class Checkpoints:
    """The checkpoints of one phase of training in a run directory.

    Args:
        folder: The run directory.
        phase: Name of the phase.
        keep: Number of newest checkpoints to keep.
        warn: Called with a message about each checkpoint that is damaged.
    """

    def __init__(self, folder: Path, phase: str, keep: int, warn: Callable[[str], None]) -> None:
        self._folder = RunLayout(folder).checkpoints
        self._phase = phase
        self._keep = keep
        self._warn = warn

    def _files(self) -> list[Path]:
        """Newest first."""
        name = re.compile(rf"{re.escape(self._phase)}-(\d+)-[0-9a-f]+\.npz")
        paths = self._folder.iterdir() if self._folder.is_dir() else ()
        matches = [(name.fullmatch(path.name), path) for path in paths]
        # The same step is saved again where training went back to it.
        dated = [(int(match[1]), path.stat().st_mtime_ns, path) for match, path in matches if match]
        return [path for *_, path in sorted(dated, reverse=True)]

    def save(self, checkpoint: Checkpoint) -> None:
        """Publish a checkpoint and delete those that are too old; only the chief calls it.

        Args:
            checkpoint: The checkpoint.

        Raises:
            UserError: If it can't be written; the older ones stay.
        """
        content = checkpoint.to_bytes()
        step = checkpoint.progress.step
        with publish(self._folder / f"{self._phase}-{step:09d}-{_digest(content)}.npz") as temporary:
            temporary.write_bytes(content)
        for old in self._files()[self._keep :]:
            remove(old)

    def load(
        self,
        variables: Mapping[str, keras.Variable],
        weights: Mapping[str, keras.Variable],
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> Checkpoint | None:
        """Read the newest checkpoint that is intact.

        The chief reads it and sends it to all processes: on a shared folder they may see different files. One that
        is damaged is reported and deleted.

        Args:
            variables: The variables that it is for, by name.
            weights: Those of the model's weights.
            processes: The processes that train together.

        Returns:
            The checkpoint; None where there is none.

        Raises:
            UserError: If names, shapes or dtypes of its variables are not those of `variables`.
        """
        content = processes.broadcast_bytes(self._newest() if processes.chief else None)
        if content is None:
            return None
        try:
            checkpoint = Checkpoint.from_bytes(content, variables, weights)
            _require_same(checkpoint.variables, variables)
            if checkpoint.best:
                _require_same(checkpoint.best, weights)
        except ValueError as error:
            advice = "finish the run with the version that began it, or delete this folder to train anew"
            raise UserError(self._folder, str(error), advice) from error
        return checkpoint

    def _newest(self) -> bytes | None:
        for path in self._files():
            content = path.read_bytes()
            if path.stem.endswith(f"-{_digest(content)}"):
                return content
            remove(path)
            rest = "going on from the one before it" if self._files() else "there is none before it: starting anew"
            self._warn(f"{path}: is damaged; {rest}")
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
