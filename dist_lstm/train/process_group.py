"""The processes that train one model together: one on a single machine, one per node on several.

They run the same program and synchronise in all-reduces: of gradients in every step, of numbers here. What depends
on a clock, a signal or a file must be decided by one process, the chief, or a process would wait in an all-reduce
that the others never call.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

_WORD = np.dtype(np.int64).itemsize


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that train together; each method is called by all of them, in the same order.

    Attributes:
        number: Number of this process; 0 is the chief, the only one that writes.
        size: Number of processes.
        add: Adds arrays of one shape over the processes.
    """

    number: int
    size: int
    add: Callable[[np.ndarray], np.ndarray]

    @property
    def chief(self) -> bool:
        """Whether this process decides and writes."""
        return self.number == 0

    def total(self, *values: float) -> list[float]:
        """The sums of all processes' values, the same bit for bit in each."""
        return self.add(np.array(values, np.float64)).tolist()

    def broadcast(self, value: float) -> float:
        """The chief's value, in every process."""
        return self.total(value if self.chief else 0.0)[0]

    def broadcast_bytes(self, content: bytes | None) -> bytes | None:
        """The bytes that the chief has read, in every process.

        Args:
            content: Read by the chief; None where there is nothing. Ignored in the other processes.

        Returns:
            The chief's content.
        """
        length = int(self.broadcast(-1 if content is None else len(content)))
        if length < 0:
            return None
        words = np.zeros(-(-length // _WORD), np.int64)
        if self.chief and content is not None:
            words.view(np.uint8)[:length] = np.frombuffer(content, np.uint8)
        return self.add(words).tobytes()[:length]


SINGLE_PROCESS = ProcessGroup(0, 1, lambda values: values)


def make_process_group(strategy: Any) -> ProcessGroup:
    """The processes of a strategy.

    Args:
        strategy: A MultiWorkerMirroredStrategy whose workers TF_CONFIG names, or any strategy of one process.

    Returns:
        This process among them: the only one where the strategy does not reach beyond it.
    """
    number, size = process_rank(strategy)
    if size == 1:
        return SINGLE_PROCESS
    here = strategy.num_replicas_in_sync // size

    @tf.function(autograph=False)
    def summed(values: tf.Tensor) -> tf.Tensor:
        def of_replica() -> tf.Tensor:
            context: Any = tf.distribute.get_replica_context()
            # Replicas are numbered process by process: the first one of each stands for its process.
            first = context.replica_id_in_sync_group % here == 0
            mine = tf.where(first, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return strategy.experimental_local_results(strategy.run(of_replica))[0]

    return ProcessGroup(number, size, lambda values: summed(tf.constant(values)).numpy())


def process_rank(strategy: Any) -> tuple[int, int]:
    """Number of this process among those of a strategy, and the number of processes."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    return resolver.task_id, resolver.cluster_spec().num_tasks(resolver.task_type)
