"""Shards of a table, as every start makes them."""

from pathlib import Path

import pandas as pd

from dist_lstm.config.defaults import resolve
from dist_lstm.config.schema import Config
from dist_lstm.data.manifest import Manifest
from dist_lstm.data.prepare import describe, ingest
from dist_lstm.data.shards import Shards


def prepare(
    config: Config, folder: Path, frame: pd.DataFrame | None = None, trained: Shards | None = None
) -> Manifest:
    """Write the shards of a table into a folder, or find them there."""
    with ingest(config, folder, frame) as dataset:
        return describe(dataset, resolve(config, dataset.statistics), trained).manifest
