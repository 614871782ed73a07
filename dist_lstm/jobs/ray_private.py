"""All uses of Ray's private API, so that a new version of Ray can break this file only.

`tests/jobs/test_ray_private.py` checks them against the installed Ray; it passed with the versions in `CHECKED`.
"""

import logging
import os
import pickle
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dist_lstm.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

#: Versions of Ray with which these uses were checked.
CHECKED = ("2.60.0",)
#: Loggers that report each step of an upload.
_UPLOAD_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env",
)


def start_local(folder: Path, options: Mapping[str, Any]) -> None:
    """Start Ray on this machine, with the authentication mode that `RAY_AUTH_MODE` has now.

    Args:
        folder: Folder for Ray's own files, such as its sockets.
        options: Further arguments of `ray.init`.
    """
    import ray
    from ray._raylet import Config  # type: ignore

    # Ray reads the mode when it is imported, which may have been before the variable was set.
    Config.initialize("")
    ray.init("local", _node_ip_address="127.0.0.1", _temp_dir=str(folder), **options)


def submission_client(url: str, headers: dict[str, str], seconds: float) -> "JobSubmissionClient":
    """Ray's client for submitting, with a deadline for each request, which Ray's own does not have.

    Args:
        url: URL of the dashboard.
        headers: Headers of each request.
        seconds: Seconds of silence after which a request fails.

    Returns:
        The client.
    """
    from ray.job_submission import JobSubmissionClient

    for name in _UPLOAD_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            return super()._do_request(method, endpoint, timeout=seconds, **options)

    return Client(url, headers=headers)


def job_actor(job_id: str) -> tuple[str, str]:
    """Name and namespace of the actor that supervises a submitted job."""
    from ray.dashboard.modules.job.common import JOB_ACTOR_NAME_TEMPLATE, SUPERVISOR_ACTOR_RAY_NAMESPACE

    return JOB_ACTOR_NAME_TEMPLATE.format(job_id=job_id), SUPERVISOR_ACTOR_RAY_NAMESPACE


def trials_of(results: Any) -> Sequence[Any]:
    """Tune's records of all trials; its public results lose the settings of a trial that never reported.

    Args:
        results: What `Tuner.fit` returned.

    Returns:
        The records.
    """
    return results._experiment_analysis.trials  # noqa: SLF001


def last_result(trial: Any) -> dict[str, Any]:
    """The last result that a trial reported, from Tune's record; empty where there is none."""
    return trial.run_metadata.last_result


def refuse_others(path: Path, advice: str) -> None:
    """Refuse a file or folder of Ray's that another user could have written: reading a pickle runs its code.

    Args:
        path: The file or folder.
        advice: What to do about one that is refused.

    Raises:
        UserError: If it belongs to another user or is a link.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise UserError(path, "is a link; Ray's state is read only from where it was written", advice)
    if status.st_uid != os.getuid():
        raise UserError(
            path, f"belongs to another user ({status.st_uid}); Ray's state is read only by its owner", advice
        )


def trial_error(trial: Any) -> Exception | None:
    """The exception that ended a trial, from Tune's record.

    Args:
        trial: Tune's record.

    Returns:
        The exception; None where there is none; a `UserError` where its file is not one of this user.
    """
    # Tune writes it to this file, and copies it later to where `get_pickled_error` looks. On a cluster that
    # another user started, the file lies in a folder of that user.
    path = Path(trial.pickled_error_file) if trial.pickled_error_file else None
    if path is not None and os.path.lexists(path):
        try:
            refuse_others(path, "look into the log of the trial")
        except UserError as error:
            return error
        return pickle.loads(path.read_bytes())  # noqa: S301 (this user wrote it)
    return trial.get_pickled_error() or trial.get_error()


def saved_checkpoints(state: Mapping[str, Any]) -> Iterator[Path]:
    """The latest checkpoint of each trial in Tune's saved state.

    Args:
        state: Content of `experiment_state-*.json`.

    Yields:
        The checkpoints' paths; trials without one are left out.
    """
    from ray.tune.experiment import Trial

    for settings, metadata in state["trial_data"]:
        trial = Trial.from_json_state(settings, stub=True)
        trial.restore_run_metadata(metadata)
        if trial.checkpoint is not None:
            yield Path(trial.checkpoint.path)


@contextmanager
def tune_without_state() -> Iterator[None]:
    """Let Tune save an empty state while the block runs: saving that of each trial takes milliseconds."""
    from ray.tune.execution import tune_controller

    controller_type: Any = tune_controller.TuneController

    def save_nothing(controller: Any) -> None:
        # Tune copies the file afterwards, and refuses to report results without one.
        path = Path(controller.experiment_state_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"trial_data": []}', encoding="utf-8")

    saves = controller_type.save_to_dir
    controller_type.save_to_dir = save_nothing
    try:
        yield
    finally:
        controller_type.save_to_dir = saves
