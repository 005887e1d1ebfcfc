"""How numbers with units are told."""

from __future__ import annotations


def si_scale(value: float) -> tuple[float, str]:
    """Factor and prefix that show a value between 1 and 1000."""
    for factor, prefix in (
        *((1e12, "p"), (1e9, "n"), (1e6, "µ"), (1e3, "m")),
        *((1.0, ""), (1e-3, "k"), (1e-6, "M")),
    ):
        if abs(value) * factor < 999.5:
            return factor, prefix
    return 1e-9, "G"
