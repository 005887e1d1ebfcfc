"""Rails, traces, energy, statistics and the comparison of two accelerators."""
