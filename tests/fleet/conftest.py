"""One undisturbed fleet for all that are disturbed."""

import pytest

from tests.data.conftest import make_panel_of, make_task  # noqa: F401 (fixtures)
from tests.evaluate.conftest import prepare_frame  # noqa: F401 (a fixture)
from tests.fleet.fleets import finished, make_series, start, write_fleet


@pytest.fixture(scope="session")
def quick_fleet(tmp_path_factory):
    """Config of a fleet of 6 packs and nothing else, and what it leaves when nothing disturbs it."""
    folder = tmp_path_factory.mktemp("quick")
    config = write_fleet(folder, make_series(), group=None)
    finished(start(config, folder / "out"))
    return config, folder / "out"
