"""From a packed model to the program of one overlay."""
