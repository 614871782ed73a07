"""Checks of this machine and of a cluster, each with what to do where it fails."""
