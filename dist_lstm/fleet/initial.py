"""The models that a fleet's training starts from, those of an earlier run or fleet: `fleet.init_from`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dist_lstm.config.load import load_config
from dist_lstm.errors import UserError
from dist_lstm.fleet.models import read_models
from dist_lstm.layout import FleetLayout, RunLayout, part_files


class Initial:
    """Weights that training starts from.

    Args:
        folder: A run, whose model all models start from; or a fleet, where each starts from that of its name.
        ordinary: A Keras model of the architecture that is trained.

    Raises:
        UserError: If the run's model has another architecture.
    """

    def __init__(self, folder: Path, ordinary: Any) -> None:
        self._ordinary = ordinary
        self._files = part_files(FleetLayout(folder).models)
        self._same: tuple[list[np.ndarray], list[np.ndarray]] | None = None
        if not self._files:
            from dist_lstm.train.checkpoint import load_model

            paths = RunLayout(folder).scored_model, RunLayout(folder).model
            before, after = (load_model(path).get_weights() for path in paths)
            if [one.shape for one in before] != [one.shape for one in ordinary.get_weights()]:
                raise UserError(
                    "fleet.init_from",
                    f"{folder}: its model has another architecture",
                    (
                        "leave model.* and task.context_length out of fleet.settings, and static covariates "
                        "out of the run"
                    ),
                )
            self._same = before, after

    def of(self, names: Sequence[str]) -> Mapping[str, tuple[list[np.ndarray], list[np.ndarray]]]:
        """Weights by name: for the model trained without the test range, and for the one trained on all steps."""
        if self._same is not None:
            return dict.fromkeys(names, self._same)
        models = [one for one in read_models(self._files, names) if one.failure is None]
        return {one.name: (one.before(self._ordinary), one.after(self._ordinary)) for one in models}


def initial_settings(folder: Path) -> dict[str, Any]:
    """The settings by which a fleet's models get the architecture of the models that they start from.

    Args:
        folder: Directory of a run or a fleet.

    Returns:
        Settings of the model and the context by dotted key, as `override` takes them.

    Raises:
        UserError: If the directory is neither a run nor a fleet.
    """
    files = FleetLayout(folder)
    path = files.small_config if files.small_config.exists() else files.config
    if not path.exists():
        raise UserError("fleet.init_from", f"{folder}: is neither a run nor a fleet", "give the --out of one")
    config = load_config(path)
    model = {f"model.{key}": value for key, value in config.model.model_dump(exclude={"head"}).items()}
    return model | {"task.context_length": config.task.context_length, "task.min_context": config.task.min_context}
