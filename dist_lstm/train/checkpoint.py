"""Models and checkpoints: saved, and read back. No pickle, and no code, is ever read.

A checkpoint is one file, `checkpoints/PHASE-STEP-DIGEST.npz`: arrays and one JSON text in NumPy's own format. Its
name holds a digest of its content, which tells whether it is whole.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import dist_lstm.model  # noqa: F401 (registers the layers)
from dist_lstm.errors import UserError
from dist_lstm.layout import RunLayout
from dist_lstm.storage import publish, remove
from dist_lstm.train.process_group import SINGLE_PROCESS, ProcessGroup

_PROGRESS = "progress"


def save_model(model: keras.Model, path: Path) -> None:
    """Publish a model, without optimizer, as a `.keras` file.

    Args:
        model: The model.
        path: Where; the name ends in `.keras`.
    """
    with publish(path) as temporary:
        # Keras goes by the name's ending.
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
        UserError: If there is none or it is damaged.
    """
    if not path.is_file():
        raise UserError(path, "there is no model", "train one first")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(path, f"can't be read as a model: {str(error).splitlines()[0]}") from error


class Checkpoints:
    """The checkpoints of one phase of training in a run directory.

    Args:
        folder: The run directory.
        phase: Name of the phase.
        keep: Newest checkpoints to keep.
        say: Told of a checkpoint that can't be used.
    """

    def __init__(self, folder: Path, phase: str, keep: int, say: Callable[[str], None]) -> None:
        self._folder = RunLayout(folder).checkpoints
        self._phase = phase
        self._keep = keep
        self._say = say

    def _files(self) -> list[Path]:
        """Newest first."""
        name = re.compile(rf"{re.escape(self._phase)}-(\d+)-[0-9a-f]+\.npz")
        result = self._folder.iterdir() if self._folder.is_dir() else ()
        named = [(name.fullmatch(path.name), path) for path in result]
        # The same step is saved anew where training went back to it.
        placed = [(int(match[1]), path.stat().st_mtime_ns, path) for match, path in named if match]
        return [path for *_, path in sorted(placed, reverse=True)]

    def save(self, step: int, progress: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Publish a checkpoint and delete those that are too old; the chief alone calls it.

        Args:
            step: Steps so far.
            progress: Plain values.
            arrays: Arrays by name.

        Raises:
            UserError: If it can't be written; the older ones stay.
        """
        text = np.frombuffer(json.dumps(progress).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **{_PROGRESS: text}, **arrays)
        content = file.getvalue()
        with publish(self._folder / f"{self._phase}-{step:09d}-{_digest(content)}.npz") as temporary:
            temporary.write_bytes(content)
        for old in self._files()[self._keep :]:
            remove(old)

    def load(
        self, processes: ProcessGroup = SINGLE_PROCESS
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The newest checkpoint that is whole: what `save` was given; None where there is none.

        The chief reads it, and all processes get what it has read: a shared folder may show each another newest
        file. One that is damaged is said and deleted.
        """
        content = processes.broadcast_bytes(self._newest() if processes.chief else None)
        if content is None:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(arrays.pop(_PROGRESS).tobytes()), arrays

    def _newest(self) -> bytes | None:
        for path in self._files():
            content = path.read_bytes()
            if path.stem.endswith(f"-{_digest(content)}"):
                return content
            remove(path)
            rest = "going on from the one before it" if self._files() else "there is none before it: starting anew"
            self._say(f"{path}: is damaged; {rest}")
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
