"""Whether the GPUs of a machine can add up gradients: NCCL as TensorFlow sees it."""

from importlib import metadata
from typing import Any

from dist_lstm.startup import start_tensorflow


def sum_through_nccl() -> dict[str, Any]:
    """Add up a vector over all GPUs by the op that `MirroredStrategy` trains with.

    Returns:
        `gpus`, how many TensorFlow sees; `nccl`, the version of the library that pip installed, empty for
        another one; `error`, empty where the sum was right.
    """
    start_tensorflow()
    import tensorflow as tf

    gpus = len(tf.config.list_physical_devices("GPU"))
    result = {"gpus": gpus, "nccl": _version(), "error": ""}
    if not gpus:
        return result | {"error": "TensorFlow sees no GPU"}

    @tf.function
    def add() -> list[Any]:
        sums = []
        for number in range(gpus):
            with tf.device(f"GPU:{number}"):
                ones = tf.ones([1024])
                sums.append(
                    tf.raw_ops.NcclAllReduce(input=ones, reduction="sum", num_devices=gpus, shared_name="doctor")
                )
        return sums

    try:
        wrong = [one for one in add() if not (one.numpy() == gpus).all()]
    except tf.errors.OpError as error:
        return result | {"error": error.message.splitlines()[0]}
    return result | {"error": "the sum is wrong"} if wrong else result


def _version() -> str:
    for name in ("nvidia-nccl-cu13", "nvidia-nccl-cu12"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""
