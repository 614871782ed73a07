"""The transform of values before they are scaled, in the graph.

Axes: B batch, T context.
"""

import keras
from keras import ops

from dist_lstm.config.task import TRANSFORMS


def signed_log(values: keras.KerasTensor, transform: keras.KerasTensor | None) -> keras.KerasTensor:
    """log(1 + |y|) with the sign of y, for the windows whose transform, `[B, 2]`, has a log."""
    if transform is None:
        return values
    return ops.where(transform[:, :1] == 1, ops.sign(values) * ops.log1p(ops.abs(values)), values)


@keras.saving.register_keras_serializable("dist_lstm")
class FixedTransform(keras.layers.Layer):
    """The same transform for all series.

    Args:
        transform: One of `TRANSFORMS`.
        **kwargs: Passed on to the Keras layer.
    """

    def __init__(self, transform: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.autocast = False  # of Keras: inputs keep their type
        self.transform = transform

    def call(self, y: keras.KerasTensor) -> keras.KerasTensor:
        """Log or not, and kind of base, `[B, 2]`, for each context, `[B, T]`."""
        log, base = TRANSFORMS[self.transform]
        return ops.tile(ops.array([[int(log), base]], dtype="int32"), (ops.shape(y)[0], 1))

    def get_config(self) -> dict[str, object]:
        """Settings to create the same layer."""
        return super().get_config() | {"transform": self.transform}
