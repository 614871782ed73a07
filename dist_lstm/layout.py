"""The names of all files in a run, fleet, search, shard and forecast directory.

An attribute of a layout is a name on the class and a path on an instance:

    >>> RunLayout.model, str(RunLayout(Path("runs/x")).model)
    ('model.keras', 'runs/x/model.keras')
"""

from dataclasses import dataclass
from pathlib import Path
from typing import overload


class _Entry:
    """A file or folder in a directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layout: None, owner: type) -> str: ...
    @overload
    def __get__(self, layout: "_Layout", owner: type) -> Path: ...
    def __get__(self, layout: "_Layout | None", owner: type) -> str | Path:
        return self._name if layout is None else layout.root / self._name


@dataclass(frozen=True)
class _Layout:
    """A directory.

    Attributes:
        root: Its path.
    """

    root: Path


def part_name(number: int, kind: str = "part") -> str:
    """The name of one file of a table that is written in parts.

    Args:
        number: Index of the part, from 0.
        kind: Beginning of the name.

    Returns:
        The name.

    Example:
        >>> part_name(12)
        'part-00012.parquet'
    """
    return f"{kind}-{number:05d}.parquet"


def part_files(folder: Path, kind: str = "part") -> list[Path]:
    """The files of a table that is written in parts, in the order of their numbers."""
    return sorted(folder.glob(f"{kind}-*.parquet"))


class ShardLayout(_Layout):
    """A folder of shards: series in Parquet files, and their manifest."""

    manifest = _Entry("manifest.json")
    rejected = _Entry("rejected.parquet")


class ForecastLayout(_Layout):
    """A forecast table in parts, and the series of another table that could not be used."""

    rejected = _Entry("_rejected.parquet")


class _Prepared(_Layout):
    shards = _Entry("shards")


class TrialLayout(_Layout):
    """The files that a trial of a search saves after every epoch."""

    config = _Entry("config.yaml")
    checkpoints = _Entry("checkpoints")
    trial_score = _Entry("scores.json")


class RunLayout(_Prepared, TrialLayout):
    """A run directory."""

    history = _Entry("history.csv")
    tensorboard = _Entry("tensorboard")
    model = _Entry("model.keras")
    backtest_model = _Entry("model-backtest.keras")
    environment = _Entry("environment.json")
    metrics = _Entry("metrics.json")
    backtest = _Entry("backtest")
    scores = _Entry("scores.parquet")
    forecasts = _Entry("forecasts")
    report = _Entry("report.html")

    @classmethod
    def read(cls) -> tuple[str, ...]:
        """Names that the stages of a run read; others are not fetched from a store."""
        return (
            cls.shards,
            cls.config,
            cls.metrics,
            cls.environment,
            cls.model,
            cls.backtest_model,
            cls.scores,
            cls.backtest,
            cls.forecasts,
            cls.history,
            cls.checkpoints,
        )

    @property
    def scored_model(self) -> Path:
        """The model that never saw the test range."""
        return self.backtest_model if self.backtest_model.exists() else self.model


class FleetLayout(RunLayout):
    """The directory of a fleet, and of the run of its global model."""

    small_config = _Entry("local.yaml")
    packs = _Entry("packs")
    models = _Entry("models")
    series_scores = _Entry("scores")
    ray = _Entry("ray")

    @classmethod
    def read(cls) -> tuple[str, ...]:
        """Names that a fleet reads when it starts or continues; without the tables of finished packs."""
        return (cls.shards, cls.config, cls.metrics, cls.small_config, cls.packs)


class SearchLayout(_Prepared):
    """The directory of a search."""

    config = _Entry("search.yaml")
    ray = _Entry("ray")
    trials = _Entry("trials.parquet")
    best_config = _Entry("best.yaml")
    best = _Entry("best")
    page = _Entry("search.html")

    @classmethod
    def read(cls) -> tuple[str, ...]:
        """Names that are fetched from a store."""
        return (cls.config, cls.shards, cls.trials, cls.best_config, cls.best, cls.page)

    @classmethod
    def kept(cls) -> dict[str, str]:
        """Names that stay on this machine as long as the store has the same search: Ray's state is pickle."""
        return {cls.ray: cls.config}
