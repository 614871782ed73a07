"""Forecasts of a model, panel by panel.

Axes: B windows, T context, H horizon, P head parameters.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import tensorflow as tf

from dist_lstm.config.schema import Baseline
from dist_lstm.config.task import Task, input_spec
from dist_lstm.data.panel import Panel
from dist_lstm.data.shards import Shards
from dist_lstm.data.stream import ordered_windows
from dist_lstm.data.windows import Cutoffs, forecast_cutoffs
from dist_lstm.forecast.baselines import forecast_windows
from dist_lstm.forecast.combination import combine
from dist_lstm.forecast.table import PartWriter, forecast_columns

#: Windows per batch; the last batch is padded, so that one graph serves any number of windows.
BATCH_SIZE = 512

#: A function from a panel and cutoffs to forecasts, `[B, H, P]`, and targets, `[B, H]`; NaN where there is none.
Predictor = Callable[[Panel, Cutoffs], tuple[np.ndarray, np.ndarray]]


def make_predictor(model: keras.Model, task: Task, batch_size: int = BATCH_SIZE) -> Predictor:
    """Trace the graph that computes a model's forecasts.

    On one machine the same windows in the same order give the same bytes, whatever follows them. At another
    position in a batch, or in batches of another size, a window's forecasts may differ by 2^-20 of the largest of
    their absolute values (the last 4 bits of float32), because matrix products of some processors round a row
    depending on its position.

    Args:
        model: Has the output `forecast`; the graph uses its current weights, also after they change.
        task: The task it was built for.
        batch_size: Windows per batch.

    Returns:
        A function from a panel and cutoffs to forecasts and targets, in target units, in the order of the
        cutoffs. A forecast is NaN where its context has no value.
    """
    signature = {
        name: tf.TensorSpec((batch_size, *shape), dtype) for name, (shape, dtype) in input_spec(task).items()
    }

    graph = tf.function(lambda inputs: model(inputs, training=False)["forecast"], autograph=False)
    forecast = graph.get_concrete_function(signature)

    def batches(panel: Panel, cutoffs: Cutoffs) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for inputs, target in ordered_windows(panel, task, cutoffs, batch_size):
            empty = np.isnan(inputs["y"]).all(axis=1).reshape(-1, 1, 1)
            tensors = {name: tf.constant(values) for name, values in inputs.items()}
            values = np.where(empty, np.array(np.nan, task.value_type), forecast(tensors).numpy())
            yield values[: len(target)], target

    def predict(panel: Panel, cutoffs: Cutoffs) -> tuple[np.ndarray, np.ndarray]:
        values, targets = zip(*batches(panel, cutoffs), strict=True) if cutoffs.total else ((), ())
        parameters = model.output["forecast"].shape[-1]
        none = np.zeros((0, task.horizon, parameters), task.value_type)
        no_target = np.zeros((0, task.horizon), panel.y.dtype)
        return np.concatenate([none, *values]), np.concatenate([no_target, *targets])

    return predict


def write_forecasts(
    shards: Shards, task: Task, predict: Predictor, folder: Path, weights: Mapping[str, float] | None = None
) -> int:
    """Forecast every series from its end, shard by shard.

    Args:
        shards: The series.
        task: The task.
        predict: The model.
        folder: Where `part-*.parquet` are written, one per shard.
        weights: Weights of the model and of baselines in the combined forecast; None for no such forecast.

    Returns:
        Number of series whose forecast is NaN because their last context has no value.
    """
    unknown = 0
    names = [name for name in get_args(Baseline) if weights and weights.get(name)]
    for name, panels in shards.panels_by_file():
        with PartWriter(folder / name) as part:
            for panel in panels:
                cutoffs = forecast_cutoffs(panel.length)
                values, _ = predict(panel, cutoffs)
                unknown += int(np.isnan(values).any(axis=(1, 2)).sum())
                combined = None
                if weights:
                    others = forecast_windows(panel, task, *cutoffs.enumerate(), names)
                    combined = combine(values, others.values, weights, task)
                part.write(forecast_columns(panel, task, cutoffs, values, combined))
    return unknown
