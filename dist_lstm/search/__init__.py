"""Hyperparameter search: find better settings for a model."""
