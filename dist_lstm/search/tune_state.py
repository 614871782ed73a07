"""What Ray Tune left in the folder of a search: whose it is, whether it is whole, and the checkpoints it notes."""

import json
import os
import pickle
import shutil
from collections import defaultdict
from pathlib import Path

from dist_lstm.errors import UserError
from dist_lstm.jobs.ray_private import saved_checkpoints

_STATES, _CHECKPOINTS = "experiment_state-*.json", "checkpoint_*"


def claim(state: Path) -> None:
    """Take a folder for Tune's state, which is pickle: nobody else may write it, and nobody else's is read.

    Args:
        state: The folder; made where it is not there.

    Raises:
        UserError: If it belongs to another user or is a link.
    """
    state.mkdir(mode=0o700, exist_ok=True)
    status = state.lstat()
    if state.is_symlink() or status.st_uid != os.getuid():
        raise UserError(
            state,
            f"belongs to another user ({status.st_uid}); Ray's state is read back by its owner alone",
            "choose another --out",
        )
    state.chmod(0o700)


def check_whole(state: Path) -> None:
    """Refuse damaged state: Tune starts anew, without a word, where it can't read it.

    Args:
        state: A folder that was claimed.

    Raises:
        UserError: If the newest of some file can't be read.
    """
    pickled = ("tuner.pkl", "searcher-state-*.pkl", "search_gen_state-*.json", "basic-variant-state-*.json")
    for pattern in (_STATES, *pickled):
        for path in sorted(state.glob(pattern))[-1:]:
            try:
                content = path.read_bytes()
                pickle.loads(content) if pattern in pickled else json.loads(content)  # noqa: S301 (see claim)
            except Exception as error:
                raise UserError(
                    path, "is damaged, so the search can't go on", f"delete {state}, and its trials are run again"
                ) from error


def mend_checkpoints(state: Path) -> None:
    """Bring the checkpoints on disk to those that Tune's state notes, so that every trial can go on.

    Tune writes its state seldom, and deletes old checkpoints at once: one that it notes may be gone. The one after
    it, which was whole before the other was deleted, then takes its place. Those after the last that is noted may
    have been cut short, and would be written into; they go.

    Args:
        state: A folder that was claimed.
    """
    noted: dict[str, set[int]] = defaultdict(set)
    for path in saved_checkpoints(json.loads(max(state.glob(_STATES)).read_text(encoding="utf-8"))):
        noted[path.parent.name].add(_number(path))
    for folder in {path.parent for path in state.glob(f"*/{_CHECKPOINTS}")}:
        there = {_number(path): path for path in folder.glob(_CHECKPOINTS)}
        needed = noted[folder.name]
        for number in needed - there.keys():
            later = [one for one in there if one > number]
            if later:
                path = there[min(later)]
                shutil.copytree(path, path.with_name(f"checkpoint_{number:06d}"))
        for number in there.keys() - needed:
            if number > max(needed, default=-1):
                shutil.rmtree(there[number])


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("_")[2])
