"""Task and architecture to a Keras model. Importing this package registers its layers with Keras."""
