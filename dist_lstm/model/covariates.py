"""Inputs of the network other than values: the series, its static covariates, the calendar.

Axes: B batch, C cycles of the calendar, K static covariates, E features of a series, S steps.
"""

import math
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from keras import ops

from dist_lstm.config.resolved import ResolvedModelSettings
from dist_lstm.config.task import Task

_HARMONICS = (1, 2, 3)


@keras.saving.register_keras_serializable("dist_lstm")
class IdDropout(keras.layers.Layer):
    """Sets some indices of series and categories to 0, which means unknown, during training.

    So the embedding of unknown series is trained as well and serves series that appear later.

    Args:
        rate: Share of the windows.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, rate: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, ids: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """Drop all indices of a window or none; `ids` and the result are `[B, K]`."""
        if not training or self.rate == 0:
            return ids
        context = tf.distribute.get_replica_context()
        replica = context.replica_id_in_sync_group if context else 0
        seed = tf.cast(self.seed_generator.next(), tf.int32) + tf.stack([0, tf.cast(replica, tf.int32)])
        kept = tf.random.stateless_uniform(tf.stack([tf.shape(ids)[0], 1]), seed, alg="philox") >= self.rate
        return tf.where(kept, ids, tf.zeros_like(ids))

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"rate": self.rate}


@keras.saving.register_keras_serializable("dist_lstm")
class KnownNumbers(keras.layers.Layer):
    """Numbers that may be missing, and masks of those that are observed."""

    def call(self, numbers: keras.KerasTensor) -> keras.KerasTensor:
        """Numbers, `[B, K]`, NaN missing, to numbers, 0 if missing, and 1 where observed, `[B, 2K]`."""
        missing = ops.isnan(numbers)
        observed = ops.cast(ops.logical_not(missing), numbers.dtype)
        return ops.concatenate([ops.where(missing, ops.zeros_like(numbers), numbers), observed], axis=-1)


@keras.saving.register_keras_serializable("dist_lstm")
class CalendarFeatures(keras.layers.Layer):
    """Sine and cosine features of the calendar.

    Args:
        cycles: Name, period, and advance per step, of each cycle.
        steps: The steps of the features, counted from the first forecast step.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, cycles: Sequence[tuple[str, float, float]], steps: Sequence[int], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.cycles = [(str(name), float(period), float(advance)) for name, period, advance in cycles]
        self.steps = [int(step) for step in steps]

    def call(self, calendar: keras.KerasTensor) -> keras.KerasTensor:
        """Compute the features.

        Args:
            calendar: Positions of the first forecast step in the cycles, `[B, C]`, in the unit of each period.

        Returns:
            Sine and cosine of three harmonics of each cycle, `[B, S, 6C]`.
        """
        steps = ops.reshape(ops.array(self.steps, dtype=calendar.dtype), (1, -1))
        waves = []
        for number, (name, period, advance) in enumerate(self.cycles):
            position = calendar[:, number : number + 1] + advance * steps
            # All hours of a day have the same weekday; the small addition corrects rounding.
            position = ops.floor(position + min(1e-3, advance / 2)) if name == "weekday" else position
            phase = position * (2 * math.pi / period)
            waves += [wave(harmonic * phase) for harmonic in _HARMONICS for wave in (ops.sin, ops.cos)]
        return ops.stack(waves, axis=-1)

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"cycles": self.cycles, "steps": self.steps}


def describe_series(
    inputs: Mapping[str, keras.KerasTensor],
    statistics: keras.KerasTensor | None,
    task: Task,
    settings: ResolvedModelSettings,
) -> keras.KerasTensor | None:
    """Features of a series other than its values.

    Args:
        inputs: Model inputs by name.
        statistics: Statistics of the context, `[B, 3]`; None for none.
        task: Number of series and vocabularies.
        settings: Size of the series' embedding and share of unknown ids.

    Returns:
        The statistics, embeddings of the series and of its categories, and its numbers, `[B, E]`; None if there
        are none.
    """
    parts = [] if statistics is None else [statistics]
    if "series" in inputs:
        ids = IdDropout(settings.id_dropout, name="series_dropout")(inputs["series"])
        layer = keras.layers.Embedding(task.series + 1, settings.series_embedding, name="series_embedding")
        parts.append(layer(ids)[:, 0])
    if "categories" in inputs:
        ids = IdDropout(settings.id_dropout, name="category_dropout")(inputs["categories"])
        for number, (_, size) in enumerate(task.vocabulary.categories):
            width = min(16, math.ceil(math.sqrt(size + 1)))
            layer = keras.layers.Embedding(size + 1, width, name=f"category_{number}")
            parts.append(layer(ids[:, number]))
    if "numbers" in inputs:
        parts.append(KnownNumbers(name="numbers_known")(inputs["numbers"]))
    return ops.concatenate(parts, axis=-1) if len(parts) > 1 else (parts[0] if parts else None)


def calendar_waves(
    inputs: Mapping[str, keras.KerasTensor], task: Task, steps: Sequence[int], name: str
) -> keras.KerasTensor | None:
    """Features of the calendar at some steps.

    Args:
        inputs: Model inputs by name.
        task: The cycles of its frequency.
        steps: The steps, counted from the first forecast step.
        name: Name of the layer.

    Returns:
        Features, `[B, S, 6C]`; None if the calendar is not an input.
    """
    if "calendar" not in inputs:
        return None
    cycles = [(cycle.name, cycle.period, cycle.advance) for cycle in task.freq.cycles]
    return CalendarFeatures(cycles, steps, name=name)(inputs["calendar"])
