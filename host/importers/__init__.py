"""Read model files into the float model."""
