"""Ray Tune's state in the folder of a search: its owner, whether it is intact, and its checkpoints."""

import json
import os
import pickle
import shutil
from collections import defaultdict
from pathlib import Path

from dist_lstm.errors import UserError
from dist_lstm.jobs.ray_private import refuse_others, saved_checkpoints

_STATES, _CHECKPOINTS = "experiment_state-*.json", "checkpoint_*"


def reserve(state: Path) -> None:
    """Reserve a folder for Tune's state: it is pickled, so only state of this user is read or may be written.

    The owner of every file in it is compared, as the folder may have been open to others, or copied with their
    files. That takes about 10 microseconds per file.

    Args:
        state: The folder; created if it does not exist.

    Raises:
        UserError: If it, or anything in it, belongs to another user or is a link.
    """
    state.mkdir(mode=0o700, exist_ok=True)
    refuse_others(state, "choose another --out")
    # From here on nobody else can add a file.
    state.chmod(0o700)
    for folder, folders, files in os.walk(state):
        for name in (*folders, *files):
            refuse_others(Path(folder) / name, f"delete {state}; its trials are then run again")


def check_intact(state: Path) -> None:
    """Refuse damaged state: Tune would start a new search, without a warning, if it can't read it.

    Args:
        state: A folder after `reserve`.

    Raises:
        UserError: If the newest file of any kind can't be read.
    """
    pickled = ("tuner.pkl", "searcher-state-*.pkl", "search_gen_state-*.json", "basic-variant-state-*.json")
    for pattern in (_STATES, *pickled):
        for path in sorted(state.glob(pattern))[-1:]:
            try:
                content = path.read_bytes()
                pickle.loads(content) if pattern in pickled else json.loads(content)  # noqa: S301 (see reserve)
            except Exception as error:
                raise UserError(
                    path,
                    "is damaged, so the search can't continue",
                    f"delete {state}; its trials are then run again",
                ) from error


def restore_checkpoints(state: Path) -> None:
    """Make the checkpoints on disk agree with those that Tune's state lists, so that every trial can continue.

    Tune writes its state rarely, but deletes old checkpoints at once, so a listed one may be missing. It is
    replaced by a copy of the next one, which was complete before the listed one was deleted. Checkpoints after the
    last listed one may be incomplete, and Tune would write into them, so they are deleted.

    Args:
        state: A folder after `reserve`.
    """
    listed: dict[str, set[int]] = defaultdict(set)
    for path in saved_checkpoints(json.loads(max(state.glob(_STATES)).read_text(encoding="utf-8"))):
        listed[path.parent.name].add(_number(path))
    for folder in {path.parent for path in state.glob(f"*/{_CHECKPOINTS}")}:
        existing = {_number(path): path for path in folder.glob(_CHECKPOINTS)}
        needed = listed[folder.name]
        for number in needed - existing.keys():
            later = [one for one in existing if one > number]
            if later:
                path = existing[min(later)]
                shutil.copytree(path, path.with_name(f"checkpoint_{number:06d}"))
        for number in existing.keys() - needed:
            if number > max(needed, default=-1):
                shutil.rmtree(existing[number])


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("_")[2])
