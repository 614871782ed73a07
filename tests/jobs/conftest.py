"""One Ray a module of tests."""

import pytest

from dist_lstm.jobs.cluster import join_cluster


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine alone, started by the command's own function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with join_cluster() as joined:
            yield joined
