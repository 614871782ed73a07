"""Training of many models of one shape in one graph."""
