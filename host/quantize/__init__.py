"""From float weights and activations to integers."""
