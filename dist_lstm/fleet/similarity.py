"""Groups of similar series: by features of their values, or by their static categories.

Axes: N series, K features.
"""

import warnings

import numpy as np
import pandas as pd

from dist_lstm.config.task import Task
from dist_lstm.data.panel import STATIC, Panel, series_mean
from dist_lstm.data.windows import split_ranges

#: Maximum number of series from which the centres of clusters are computed.
_SAMPLE = 50_000
_SERIES_PER_CLUSTER, _FEWEST, _MOST = 50, 2, 32
#: Separates the values of categories in the name of a group.
_SEPARATOR = " / "


def similarity_features(panel: Panel, task: Task) -> np.ndarray:
    """Features by which series are compared, from their training ranges.

    Args:
        panel: The series.
        task: Season and split.

    Returns:
        Features, `[N, K]`, float64: log of the length in steps; share of zeros (intermittency); strength of the
        trend and of the season, 0 to 1: the shares of the variance that are explained by a straight line, and by
        the mean of each position in the season. 0 where nothing is observed.

    Source: Wang, Smith & Hyndman, "Characteristic-based clustering for time series data", DMKD 13 (2006).
    """
    end = split_ranges(panel, task).train_end
    series = panel.series_of_step
    step = (np.arange(len(panel.y)) - panel.offset[series]).astype(np.float64)
    y = panel.y.astype(np.float64)
    observed = (step < end[series]) & ~np.isnan(y)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.nan_to_num(series_mean(panel, values, observed))

    centred, time = y - mean(y)[series], step - mean(step)[series]
    slope = _share(mean(time * centred), mean(time**2))
    detrended = centred - slope[series] * time
    total, residual = mean(centred**2), mean(detrended**2)
    position = series * task.season_length + (step % task.season_length).astype(np.int64)
    size = len(panel.unique_id) * task.season_length
    count = np.bincount(position[observed], minlength=size)
    seasonal = np.bincount(position[observed], weights=detrended[observed], minlength=size) / np.maximum(count, 1)
    rest = mean((detrended - seasonal[position]) ** 2)
    return np.stack(
        [
            np.log(np.maximum(end, 1)),
            mean(y == 0),
            1 - _share(residual, total, 1.0),
            1 - _share(rest, residual, 1.0),
        ],
        axis=1,
    )


def _share(top: np.ndarray, bottom: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(len(top), otherwise), where=bottom > 0)


def cluster_series(features: np.ndarray, clusters: int | None, seed: int) -> np.ndarray:
    """Assign similar series to the same cluster, by k-means on standardised features.

    Args:
        features: Features, `[N, K]`.
        clusters: Number of clusters; None for one per 50 series, at least 2 and at most 32.
        seed: Seed of the initial centres, and of the sample of series that they are computed from.

    Returns:
        Index of each series' cluster, `[N]`, from 0; fewer clusters than requested if series do not differ.

    Example:
        >>> cluster_series(np.array([[0.0], [1.0], [0.0]]), 2, seed=1)
        array([0, 1, 0], dtype=int32)
    """
    from scipy.cluster.vq import kmeans2, vq

    number = len(features)
    requested = clusters or min(max(number // _SERIES_PER_CLUSTER, _FEWEST), _MOST)
    deviation = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(number, min(number, _SAMPLE), replace=False))
    different = np.unique(scaled[chosen], axis=0)
    if len(different) <= requested:
        return vq(scaled, different)[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        centres, _ = kmeans2(scaled[chosen], requested, minit="++", rng=generator)
    return vq(scaled, centres)[0]


def category_groups(panel: Panel, columns: tuple[str, ...], values: dict[str, list[str]]) -> np.ndarray:
    """Name the combination of categories of each series.

    Args:
        panel: The series.
        columns: Names of static categorical columns.
        values: Values of each column in the order of their codes, which start at 1; code 0 is a missing value.

    Returns:
        Names, `[N]`, such as `north / shoes`; `?` stands for a missing value.
    """
    parts = [
        np.array(["?", *values[column]], dtype=object)[panel.facts[STATIC + column].astype(np.int64)]
        for column in columns
    ]
    return pd.DataFrame(dict(enumerate(parts))).agg(_SEPARATOR.join, axis=1).to_numpy(dtype=object)
