"""Models and checkpoints: saved, and read back. No pickle, and no code, is ever read.

A checkpoint is one file, `checkpoints/PHASE-STEP.npz`: a zip of arrays and one JSON text, each with a checksum.
"""

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import dist_lstm.model  # noqa: F401 (registers the layers)
from dist_lstm.errors import UserError
from dist_lstm.storage import publish

CHECKPOINTS = "checkpoints"
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
        raise UserError(f"{path}: there is no model; train one first")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: can't be read as a model: {str(error).splitlines()[0]}") from error


class Checkpoints:
    """The checkpoints of one phase of training in a run directory.

    Args:
        folder: The run directory.
        phase: Name of the phase.
        keep: Newest checkpoints to keep.
        say: Told of a checkpoint that can't be used.
    """

    def __init__(self, folder: Path, phase: str, keep: int, say: Callable[[str], None]) -> None:
        self._folder = folder / CHECKPOINTS
        self._phase = phase
        self._keep = keep
        self._say = say

    def _files(self) -> list[Path]:
        """Newest first."""
        name = re.compile(rf"{re.escape(self._phase)}-\d+\.npz")
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted((path for path in found if name.fullmatch(path.name)), reverse=True)

    def save(self, step: int, progress: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Publish a checkpoint and delete those that are too old.

        Args:
            step: Steps so far.
            progress: Plain values.
            arrays: Arrays by name.

        Raises:
            UserError: If it can't be written; the older ones stay.
        """
        text = np.frombuffer(json.dumps(progress).encode(), np.uint8)
        with publish(self._folder / f"{self._phase}-{step:09d}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_PROGRESS: text}, **arrays)
        for old in self._files()[self._keep :]:
            old.unlink()

    def load(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The newest checkpoint that is whole: what `save` was given; None where there is none.

        One that is damaged is said and deleted.
        """
        for path in self._files():
            try:
                with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in file.files}
                return json.loads(arrays.pop(_PROGRESS).tobytes()), arrays
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self._say(f"{path}: is damaged ({reason}); going on from the checkpoint before it")
                path.unlink()
        return None
