"""Forecasts of a trained model from the last windows, their table, and baselines."""
