"""A trained model and last windows to forecasts; and what a model has to beat."""
