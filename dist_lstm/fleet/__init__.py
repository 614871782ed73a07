"""Many small models: a model per series, cluster or group, and one forecast for every series."""
