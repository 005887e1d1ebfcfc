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


def si_text(value: float, unit: str, digits: int = 3) -> str:
    """A value with an SI prefix: 1.42e-6, "J" -> "1.42 µJ"."""
    factor, prefix = si_scale(value)
    return f"{value * factor:.{digits}g} {prefix}{unit}"
