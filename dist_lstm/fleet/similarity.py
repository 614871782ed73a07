"""Groups of similar series: by what they look like, or by their static categories.

Axes: N series, S steps, K features.
"""

import warnings

import numpy as np
import pandas as pd

from dist_lstm.config.task import Task
from dist_lstm.data.panel import STATIC, Panel, series_mean
from dist_lstm.data.windows import split_ranges

#: Series that the centres of clusters are sought in, at most.
_SAMPLE = 50_000
_SERIES_A_CLUSTER, _FEWEST, _MOST = 50, 2, 32
#: Values of categories are put together to the name of a group.
_BETWEEN = " / "


def similarity_features(panel: Panel, task: Task) -> np.ndarray:
    """What series look like on their training ranges.

    Args:
        panel: The series.
        task: Season and split.

    Returns:
        Features, `[N, K]`, float64: log of the length; share of zeros (intermittency); strength of the trend and
        of the season, 0 to 1, as shares of the variance that a straight line and the means of each place in the
        season take out. 0 where nothing is observed.

    Source: Wang, Smith & Hyndman, "Characteristic-based clustering for time series data", DMKD 13 (2006).
    """
    end = split_ranges(panel.length, task).train_end
    series = panel.series_of_step
    step = (np.arange(len(panel.y)) - panel.offset[series]).astype(np.float64)
    y = panel.y.astype(np.float64)
    observed = (step < end[series]) & ~np.isnan(y)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.nan_to_num(series_mean(panel, values, observed))

    centred, time = y - mean(y)[series], step - mean(step)[series]
    slope = _share(mean(time * centred), mean(time**2))
    straight = centred - slope[series] * time
    total, left = mean(centred**2), mean(straight**2)
    position = series * task.season_length + (step % task.season_length).astype(np.int64)
    size = len(panel.unique_id) * task.season_length
    count = np.bincount(position[observed], minlength=size)
    seasonal = np.bincount(position[observed], weights=straight[observed], minlength=size) / np.maximum(count, 1)
    rest = mean((straight - seasonal[position]) ** 2)
    return np.stack(
        [np.log(np.maximum(end, 1)), mean(y == 0), 1 - _share(left, total, 1.0), 1 - _share(rest, left, 1.0)],
        axis=1,
    )


def _share(top: np.ndarray, bottom: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(len(top), otherwise), where=bottom > 0)


def cluster_series(features: np.ndarray, clusters: int | None, seed: int) -> np.ndarray:
    """Put similar series together by k-means on standardised features.

    Args:
        features: Features, `[N, K]`.
        clusters: How many; None for one for each 50 series, 2 to 32.
        seed: Seed of the centres, and of the sample they are sought in.

    Returns:
        Number of each series' cluster, `[N]`, from 0; fewer numbers where series do not differ.
    """
    from scipy.cluster.vq import kmeans2, vq

    number = len(features)
    count_asked = clusters or min(max(number // _SERIES_A_CLUSTER, _FEWEST), _MOST)
    deviation = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(number, min(number, _SAMPLE), replace=False))
    different = np.unique(scaled[chosen], axis=0)
    if len(different) <= count_asked:
        return vq(scaled, different)[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        centres, _ = kmeans2(scaled[chosen], count_asked, minit="++", rng=generator)
    return vq(scaled, centres)[0]


def category_groups(panel: Panel, columns: tuple[str, ...], values: dict[str, list[str]]) -> np.ndarray:
    """Name of each series' combination of categories.

    Args:
        panel: The series.
        columns: Names of static categories.
        values: Values of each category in the order of their numbers, from 1.

    Returns:
        Names, `[N]`, such as `north / shoes`; `?` stands for a missing value.
    """
    parts = [
        np.array(["?", *values[column]], dtype=object)[panel.facts[STATIC + column].astype(np.int64)]
        for column in columns
    ]
    return pd.DataFrame(dict(enumerate(parts))).agg(_BETWEEN.join, axis=1).to_numpy(dtype=object)
