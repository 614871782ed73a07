"""Weights of the combined forecast, chosen on the validation range.

Axes: B windows, H horizon, K forecasts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dist_lstm.config.schema import Baseline
from dist_lstm.config.task import Task
from dist_lstm.data.shards import Shards
from dist_lstm.evaluate.validation import mean_over_series, scaled_errors, validation_batches
from dist_lstm.forecast.baselines import forecast_windows
from dist_lstm.forecast.table import COMBINED, MODEL, median
from dist_lstm.metrics import choose_weights


@dataclass(frozen=True)
class ChosenWeights:
    """The weights of the combined forecast, and the scores by which they were chosen.

    Attributes:
        weights: Weight of the model and of each baseline, which sum to 1.
        mase: MASE on validation windows, of each of them and of `Combined`; NaN where no window has one.
        windows: Windows that count.
    """

    weights: Mapping[str, float]
    mase: Mapping[str, float]
    windows: int

    def describe(self) -> dict[str, Any]:
        """Its section of `metrics.json`."""
        return {
            "weights": dict(self.weights),
            "validation_mase": dict(self.mase),
            "validation_windows": self.windows,
        }

    @property
    def summary(self) -> str:
        """Weights and scores in a few words, and whether the combination is better than the model alone."""
        shares = ", ".join(f"{share:.0%} {name}" for name, share in self.weights.items())
        if not self.windows:
            return f"{shares}, equal weights: there is no validation window to choose them on"
        both, model = self.mase[COMBINED], self.mase[MODEL]
        result = "better than" if both < model else "not better than"
        return f"{shares}; on validation {result} {MODEL} alone (MASE {both:.4g}, {MODEL} {model:.4g})"


def choose_combination(
    shards: Shards, task: Task, model: Any, names: Sequence[Baseline], seed: int
) -> ChosenWeights:
    """Choose the weights of a model and of baselines on windows of the validation range.

    Args:
        shards: The series.
        task: The task of the model.
        model: A Keras model that was not trained on the validation range.
        names: Baselines.
        seed: Seed of the sample of windows.

    Returns:
        The weights, by which the mean MASE of the series is lowest.
    """
    import tensorflow as tf

    graph = tf.function(
        lambda inputs: model(inputs, training=False)["forecast"], autograph=False, reduce_retracing=True
    )
    candidates = [MODEL, *names]
    forecasts: list[np.ndarray] = []
    batches = [*validation_batches(shards, task, task.min_context, seed)]
    for one in batches:
        others = forecast_windows(one.panel, task, one.series, one.cutoff, names).values
        values = {MODEL: median(graph(one.inputs).numpy(), task), **others}
        forecasts.append(np.stack([values[name] for name in candidates]))
    if not batches:
        return ChosenWeights(dict.fromkeys(candidates, 1 / len(candidates)), {}, 0)
    stacked = np.concatenate(forecasts, axis=1).astype(np.float64)
    target, scale, owner = (
        np.concatenate([getattr(one, key) for one in batches]) for key in ("target", "scale", "owner")
    )
    # A window in which one of them has no forecast says nothing about weights.
    scale = np.where(np.isfinite(stacked).all(axis=(0, 2)), scale, np.nan)
    counted = (scale > 0) & ~np.isnan(target).all(axis=1)
    per_series = np.bincount(owner[counted], minlength=owner.max() + 1)
    weight = np.divide(1.0, per_series[owner], out=np.zeros(len(owner)), where=counted)
    chosen = choose_weights(np.nan_to_num(stacked), target, np.where(counted, scale, 0.0), weight)
    combined = np.einsum("k,kbh->bh", chosen, stacked)
    scores = {
        name: mean_over_series(scaled_errors(forecast, target, scale), owner)
        for name, forecast in [*zip(candidates, stacked, strict=True), (COMBINED, combined)]
    }
    return ChosenWeights(dict(zip(candidates, chosen, strict=True)), scores, int(counted.sum()))
