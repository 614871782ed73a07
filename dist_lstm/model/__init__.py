"""Keras models of a task and an architecture.

Importing this package registers its layers with Keras, so that `keras.models.load_model` can read a saved model.
"""

from dist_lstm.model import covariates, decoder, encoder, ensemble, heads, scaling, statistics, transform

__all__ = ["covariates", "decoder", "encoder", "ensemble", "heads", "scaling", "statistics", "transform"]
