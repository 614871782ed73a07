"""From a table to shards, from shards to windows, from windows to `tf.data`."""
