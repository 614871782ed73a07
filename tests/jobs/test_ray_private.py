"""Private API of Ray is used in one module only, and exists in the installed version."""

import ast
import inspect
from importlib import metadata
from pathlib import Path

import pytest

import dist_lstm
from dist_lstm.jobs import ray_private

#: Documented modules of Ray.
DOCUMENTED = {
    "ray", "ray.exceptions", "ray.job_submission", "ray.train", "ray.train.tensorflow", "ray.tune",
    "ray.tune.schedulers", "ray.tune.search", "ray.tune.search.optuna", "ray.util",
    "ray.util.scheduling_strategies",
}  # fmt: skip
#: Undocumented attributes of Tune's records of trials.
OF_TRIALS = {"run_metadata", "pickled_error_file", "get_pickled_error", "from_json_state", "restore_run_metadata"}
PACKAGE = Path(dist_lstm.__file__).parent
MODULES = [
    path
    for folder in (PACKAGE, PACKAGE.parent / "benchmarks")
    for path in sorted(folder.rglob("*.py"))
    if path != Path(ray_private.__file__)
]


def private_uses(source):
    """Lines that use private API of Ray, or private attributes of any other object."""
    tree = ast.parse(source)
    uses = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names if one.name.startswith("_"))]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("ray._"):
            names = [node.value]
        if any(name.split(".")[0] == "ray" and name not in DOCUMENTED for name in names):
            uses.append(node.lineno)
        of_ray = "import ray" in source or "from ray" in source
        private = (
            of_ray and isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr[:2] != "__"
        )
        if private and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os")):
            uses.append(node.lineno)
        if isinstance(node, ast.Attribute) and node.attr in OF_TRIALS:
            uses.append(node.lineno)
        if of_ray and isinstance(node, ast.keyword) and (node.arg or "").startswith("_"):
            uses.append(node.value.lineno)
    return uses


@pytest.mark.parametrize(
    "source",
    [
        "import ray._private.services",
        "from ray._raylet import Config",
        "from ray.tune.experiment import Trial",
        "from ray.dashboard.modules.job.common import JOB_ACTOR_NAME_TEMPLATE",
        "from ray.tune import _x",
        "import ray\nray.init(_temp_dir='x')",
        "import ray\nray._private.worker",
        "from ray import tune\ntune.Tuner().fit()._experiment_analysis",
        "trial.run_metadata.last_result",
        "logging.getLogger('ray._private')",
    ],
)
def test_each_kind_of_private_use_is_detected(source):
    assert private_uses(source)


def test_no_other_module_uses_private_api_of_ray():
    assert {path.name: uses for path in MODULES if (uses := private_uses(path.read_text()))} == {}
    assert len(private_uses(Path(ray_private.__file__).read_text())) > 5


def test_the_installed_ray_is_one_that_was_checked():
    assert metadata.version("ray") in ray_private.CHECKED


def test_ray_starts_with_a_folder_and_an_address_and_can_reread_the_authentication_mode():
    import ray
    from ray._raylet import Config

    parameters = inspect.signature(ray.init).parameters
    assert {"address", "num_cpus", "include_dashboard", "object_store_memory"} <= parameters.keys()
    # Private ones are parameters, or keys that `init` takes from its further keyword arguments.
    source = inspect.getsource(ray.init)
    assert {name for name in ("_node_ip_address", "_temp_dir") if name not in source} == set()
    Config.initialize("")


def test_each_request_of_the_submission_client_has_a_deadline(monkeypatch):
    import requests
    from ray.job_submission import JobSubmissionClient

    timeouts = []

    def request(method, url, **options):
        timeouts.append((url, options.get("timeout"), options["headers"]["Authorization"]))
        answer = requests.Response()
        answer.status_code = 200
        answer._content = (
            b'{"ray_version": "9.0"}' if method == "GET" else b'{"submission_id": "x", "job_id": "x"}'
        )
        return answer

    monkeypatch.setattr(requests, "request", request)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    client = ray_private.submission_client("http://127.0.0.1:1", {"Authorization": "Bearer word"}, 7.0)
    client.submit_job(entrypoint="true")
    assert {(timeout, word) for _, timeout, word in timeouts} == {(7.0, "Bearer word")}
    assert timeouts[-1][0] == "http://127.0.0.1:1/api/jobs/"
    assert list(inspect.signature(JobSubmissionClient._do_request).parameters)[:3] == [
        "self",
        "method",
        "endpoint",
    ]


def test_the_actor_of_a_job_has_a_name_and_a_namespace():
    name, namespace = ray_private.job_actor("job-7")
    assert name.endswith("job_actor_job-7")
    assert namespace == "SUPERVISOR_ACTOR_RAY_NAMESPACE"


def test_records_of_trials_keep_their_result_their_error_and_their_checkpoint(tmp_path, monkeypatch):
    import ray.train._internal.storage
    from ray.exceptions import RayTaskError
    from ray.train._internal.session import _TrainingResult
    from ray.train._internal.storage import StorageContext
    from ray.tune import Checkpoint, PlacementGroupFactory
    from ray.tune.experiment import Trial

    # The driver's folder, which Ray would ask the cluster for.
    monkeypatch.setattr(
        ray.train._internal.storage, "_get_ray_train_session_dir", lambda: str(tmp_path / "driver")
    )
    storage = StorageContext(str(tmp_path), "experiment", trial_dir_name="trial")
    trial = Trial("name", config={"x": 1}, stub=True, storage=storage)
    trial.placement_group_factory = PlacementGroupFactory([{"CPU": 1}])
    trial.init_local_path()
    assert ray_private.last_result(trial) == {}
    assert ray_private.trial_error(trial) is None
    trial.handle_error(RayTaskError("step", "reason", RuntimeError("reason")))
    assert "reason" in str(ray_private.trial_error(trial))
    with monkeypatch.context() as patch:  # the folder of a cluster that another user started
        owner = tmp_path.stat().st_uid
        patch.setattr(ray_private.os, "getuid", lambda: owner + 1)
        assert f"error.pkl: belongs to another user ({owner})" in str(ray_private.trial_error(trial))
    trial.run_metadata.last_result = {"score": 1.0}
    assert ray_private.last_result(trial) == {"score": 1.0}
    state = {"trial_data": [trial.get_json_state()]}
    assert list(ray_private.saved_checkpoints(state)) == []
    trial.run_metadata.invalidate_cache()
    folder = tmp_path / "experiment" / "trial" / "checkpoint_000000"
    folder.mkdir(parents=True)
    trial.run_metadata.checkpoint_manager.register_checkpoint(_TrainingResult(Checkpoint(str(folder)), {}))
    state = {"trial_data": [trial.get_json_state()]}
    assert list(ray_private.saved_checkpoints(state)) == [folder]


def test_results_of_a_tuner_keep_the_records_of_its_trials():
    from ray.tune import ExperimentAnalysis, ResultGrid

    assert "_experiment_analysis" in inspect.getsource(ResultGrid.__init__)
    assert "trials" in inspect.signature(ExperimentAnalysis.__init__).parameters


def test_tune_saves_no_state_inside_the_block_only():
    from ray.tune.execution.tune_controller import TuneController

    saves = TuneController.save_to_dir
    assert "save_fn=self.save_to_dir" in inspect.getsource(TuneController.checkpoint)
    assert isinstance(TuneController.experiment_state_path, property)
    with ray_private.tune_without_state():
        assert TuneController.save_to_dir is not saves
    assert TuneController.save_to_dir is saves
