"""Saving models and reading them back."""

from pathlib import Path

import keras

import dist_lstm.model  # noqa: F401 (registers the layers)
from dist_lstm.errors import UserError
from dist_lstm.storage import publish


def save_model(model: keras.Model, path: Path) -> None:
    """Publish a model, without optimizer, as a `.keras` file.

    Args:
        model: The model.
        path: Where; the name ends in `.keras`.
    """
    with publish(path) as temporary:
        # Keras goes by the name's ending.
        written = temporary.with_suffix(".keras")
        model.save(written, include_optimizer=False)
        written.rename(temporary)


def load_model(path: Path) -> keras.Model:
    """Read a model that `save_model` wrote; code inside the file is never run.

    Args:
        path: The `.keras` file.

    Returns:
        The model, without optimizer.

    Raises:
        UserError: If there is none or it is damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no model; train one first")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: can't be read as a model: {str(error).splitlines()[0]}") from error
