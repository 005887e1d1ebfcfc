"""The network as a person knows it: named layers, float weights, scales."""
