"""A model with the compiled graphs of its training."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from dist_lstm.config.resolved import MeasuredTrainSettings
from dist_lstm.model.heads import Loss
from dist_lstm.train.process_group import ProcessGroup, make_process_group
from dist_lstm.train.state import TrainState, make_train_state, model_variables, read_values
from dist_lstm.train.step import TrainSteps, make_mean_loss, make_train_steps


@dataclass(frozen=True)
class Trainer:
    """A model and the compiled graphs of its training, which may be trained several times, each from the start.

    Building a model and tracing its graphs takes seconds, setting its weights does not.

    Attributes:
        state: The model and its optimizer.
        settings: Batch size, learning rate, patience; resolved.
        processes: The processes that train together.
        train_steps: Runs training steps.
        mean_loss: Computes a validation loss.
        first: All variables before the first step.
    """

    state: TrainState
    settings: MeasuredTrainSettings
    processes: ProcessGroup
    train_steps: TrainSteps
    mean_loss: Callable[[Iterator[Any]], float]
    first: Mapping[str, np.ndarray]

    def reset(self, model: keras.Model) -> None:
        """Begin again with the weights and the states of random numbers of a model of the same architecture."""
        self.state.write({**self.first, **read_values(model_variables(model))})


def make_trainer(
    build: Callable[[], keras.Model], loss: Loss, settings: MeasuredTrainSettings, strategy: Any
) -> Trainer:
    """Build a model with all that its training needs.

    Args:
        build: Builds the model; called inside the strategy's scope.
        loss: The head's loss.
        settings: Batch size, learning rate, patience; resolved.
        strategy: The strategy to train under.

    Returns:
        The trainer; its graphs are traced when they are first used.
    """
    state, processes = make_train_state(build, settings, strategy), make_process_group(strategy)
    return Trainer(
        state,
        settings,
        processes,
        make_train_steps(state, loss, settings),
        make_mean_loss(state.model, loss, processes),
        read_values(state.variables),
    )
