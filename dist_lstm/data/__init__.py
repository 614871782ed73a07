"""A table to shards, shards to windows, windows to `tf.data`."""
