"""Many small models: one per series, cluster or group, and one forecast for every series."""
