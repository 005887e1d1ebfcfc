"""Exact integer arithmetic: the one truth for emulation, RTL and tests (docs/numerics.md)."""
