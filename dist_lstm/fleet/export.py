"""One model of a fleet as an ordinary Keras model."""

from pathlib import Path

from dist_lstm.config.resolved import load_resolved
from dist_lstm.data.shards import open_shards
from dist_lstm.errors import UserError
from dist_lstm.fleet.models import read_models
from dist_lstm.fleet.pack import small_task
from dist_lstm.layout import FleetLayout
from dist_lstm.startup import start_tensorflow


def export_model(fleet: Path, name: str, path: Path) -> None:
    """Write one model of a fleet, the one that was also trained on the test range, as a Keras file.

    Its inputs and outputs are those of `dist_lstm.model.lstm.build_model`.

    Args:
        fleet: The fleet's directory.
        name: The model's name: the `unique_id` of its series, or the name of its group.
        path: The file to write; its suffix must be `.keras`.

    Raises:
        UserError: If the directory is not a fleet, if the fleet has no such model or could not train it, or if
            the path has another suffix.
    """
    layout = FleetLayout(fleet)
    if not layout.small_config.is_file():
        missing = FleetLayout.small_config
        raise UserError(fleet, f"is not a fleet: it has no {missing}", "give the --out of dist-lstm fleet")
    if path.suffix != ".keras":
        raise UserError(f"--out {path}", "expected a file that ends in .keras")
    files = sorted(layout.models.glob("*.parquet"))
    stored = read_models(files, [name]) if files else []
    if not stored:
        raise UserError(
            fleet, f"has no model {name!r}", f"{FleetLayout.models}/ lists those that are done, in the column name"
        )
    if stored[0].failure is not None:
        raise UserError(fleet, f"the model {name!r} could not be trained: {stored[0].failure}")
    start_tensorflow()
    from dist_lstm.model.lstm import build_model
    from dist_lstm.train.checkpoint import save_model

    config, shards = load_resolved(layout.small_config), open_shards(layout.shards)
    model = build_model(small_task(shards, config), config.model)
    model.set_weights(stored[0].after(model))
    save_model(model, path)
