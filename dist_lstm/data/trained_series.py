"""What a model keeps of the series it was trained on, when it forecasts another table.

Axes: N series.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dist_lstm.data.shards import STATISTICS, Shards


@dataclass(frozen=True)
class TrainedSeries:
    """Facts of the series that a model was trained on.

    Attributes:
        rows: Position of each series in the facts, by name.
        facts: Index, transform and statistics, each `[N]`.
        transform: The most frequent transform, which new series get.
    """

    rows: Mapping[str, int]
    facts: Mapping[str, np.ndarray]
    transform: str

    def carry_over(self, names: np.ndarray, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replace the facts of series of these names by those of the training.

        Args:
            names: Names of the series of a table, `[N]`.
            facts: Their facts in the table, each `[N]`.

        Returns:
            The facts, each `[N]`; a series that was not trained on keeps those of the table and has the index 0.
        """
        row = np.array([self.rows.get(name, -1) for name in names], np.int64)
        result = dict(facts) | {"series": np.zeros(len(row), np.int64)}
        return result | {key: np.where(row >= 0, self.facts[key][row], result[key]) for key in self.facts}


def trained_series(shards: Shards) -> TrainedSeries:
    """Read the facts of the series that a model was trained on."""
    facts = shards.read_columns(["unique_id", "series", "transform", *STATISTICS])
    names = facts.pop("unique_id")
    counts = shards.manifest.transforms
    return TrainedSeries({name: row for row, name in enumerate(names)}, facts, max(counts, key=counts.__getitem__))
