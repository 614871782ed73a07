"""An uninterrupted fleet, with which interrupted ones are compared."""

import pytest

from tests.data.conftest import make_panel_of, make_task  # noqa: F401 (fixtures)
from tests.evaluate.conftest import prepare_frame  # noqa: F401 (a fixture)
from tests.fleet.fleets import finished, make_series, start, write_fleet


@pytest.fixture(scope="session")
def quick_fleet(tmp_path_factory):
    """Config of a fleet of 6 packs without groups or a global model, and its directory after it has finished."""
    folder = tmp_path_factory.mktemp("quick")
    config = write_fleet(folder, make_series(), group=None)
    finished(start(config, folder / "out"))
    return config, folder / "out"
