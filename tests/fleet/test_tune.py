"""Packs as trials of Ray Tune: each once, in order, on reused workers; results and failures are reported."""

import os
from contextlib import contextmanager

import pytest

from dist_lstm.errors import UserError
from dist_lstm.fleet import tune
from dist_lstm.fleet.tune import run_packs, workers_of

RESOURCES = {"cpu": 1, "gpu": 0}


@pytest.mark.parametrize(
    ("node", "needed", "workers"),
    [
        ({"CPU": 4.0}, {"CPU": 1}, 4),
        ({"CPU": 4.0}, {"CPU": 1.5}, 2),
        ({"CPU": 4.0, "GPU": 1.0}, {"CPU": 1, "GPU": 0.25}, 4),
        ({"CPU": 4.0, "GPU": 1.0}, {"CPU": 1, "GPU": 0.5}, 2),
        ({"CPU": 4.0}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 4.0}, {}, 1),
    ],
)
def test_a_node_holds_as_many_workers_as_its_scarcest_resource_allows(node, needed, workers):
    assert workers_of(node, needed) == workers


def test_packs_are_suggested_in_order_and_never_more_than_there_is_capacity_for():
    searcher = tune._searcher([7, 8, 9], lambda: 2)
    assert [searcher.suggest("a"), searcher.suggest("b")] == [{"pack": 7}, {"pack": 8}]
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("c") == {"pack": 9}


def test_more_packs_wait_on_a_cluster_that_may_grow_than_it_has_workers(monkeypatch):
    import ray

    nodes = [{"Alive": True, "Resources": {"CPU": 3.0}}, {"Alive": False, "Resources": {"CPU": 8.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert tune._Capacity(RESOURCES)() == 3
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert tune._Capacity(RESOURCES)() == 3 + tune._WAITING


@pytest.mark.slow
@pytest.mark.fault
def test_each_pack_is_done_once_by_few_processes_and_reported_with_its_result(cluster, tmp_path):
    @contextmanager
    def open_worker():
        (tmp_path / f"worker-{os.getpid()}").touch()
        yield lambda pack: {"square": pack**2, "process": os.getpid()}

    ended, died = {}, []
    (tmp_path / "ray").mkdir()

    def on_end(pack, result, seconds):
        assert pack not in ended
        assert seconds >= 0
        ended[pack] = result

    packs = range(5, 45)
    assert run_packs(packs, open_worker, RESOURCES, tmp_path / "ray" / "x", on_end, died.append) == []
    assert {pack: result["square"] for pack, result in ended.items()} == {pack: pack**2 for pack in packs}
    assert died == []
    processes = {result["process"] for result in ended.values()}
    assert len(processes) <= 2
    assert {f"worker-{process}" for process in processes} == {path.name for path in tmp_path.glob("worker-*")}
    [state] = (tmp_path / "ray" / "x").glob("experiment_state*")
    assert state.read_text() == '{"trial_data": []}', "Tune saves no state"


@pytest.mark.slow
@pytest.mark.fault
def test_a_pack_that_fails_is_reported_and_a_users_error_is_raised(cluster, tmp_path):
    @contextmanager
    def open_worker():
        def work(pack):
            if pack == 1:
                raise RuntimeError("internal")
            return {}

        yield work

    @contextmanager
    def refuse():
        raise UserError("a setting", "is wrong")
        yield

    ended, failed = [], []
    (tmp_path / "ray").mkdir()

    def on_end(pack, *_):
        ended.append(pack)

    [error] = run_packs([0, 1, 2], open_worker, RESOURCES, tmp_path / "ray" / "x", on_end, failed.append)
    assert "internal" in str(error)
    assert (sorted(ended), failed) == ([0, 2], [1])
    with pytest.raises(UserError, match="a setting: is wrong"):
        run_packs([0, 1], refuse, RESOURCES, tmp_path / "ray" / "y", on_end, failed.append)
