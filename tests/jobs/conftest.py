"""One Ray a module of tests; one undisturbed fleet for all that are disturbed."""

import pytest

from dist_lstm.jobs.session import join_cluster
from tests.fleet.fleets import finished, make_series, start, write_fleet


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine alone, started by the command's own function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with join_cluster() as joined:
            yield joined


@pytest.fixture(scope="session")
def quick_fleet(tmp_path_factory):
    """Config of a fleet of 6 packs and nothing else, and what it leaves when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("quick")
    config = write_fleet(folder, make_series(), group=None)
    finished(start(config, folder / "out"))
    return config, folder / "out"
