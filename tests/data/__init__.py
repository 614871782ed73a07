"""Tests of `dist_lstm.data`."""
