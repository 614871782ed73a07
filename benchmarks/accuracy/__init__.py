"""Accuracy on public tables: the tables and their protocols, runs through the command line, stored results."""
