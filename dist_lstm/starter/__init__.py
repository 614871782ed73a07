"""A look at a table, and a commented config to start from."""
