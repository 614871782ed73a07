"""The command line: a thin verb per stage."""
