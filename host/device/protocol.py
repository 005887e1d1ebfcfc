"""The words of the register protocol that driver and emulated accelerator share."""

from __future__ import annotations

import enum


class Select(enum.IntEnum):
    """Values of STREAM_SELECT: what the next packet is; names as the flags of STATUS."""

    IMAGES = 0
    PROGRAM = 1
    WEIGHTS = 2
    CONSTANTS = 3


LOADS = (Select.PROGRAM, Select.WEIGHTS, Select.CONSTANTS)
"""What is loaded once, in this order."""


class ErrorCode(enum.IntEnum):
    """Values of STATUS.ERROR_CODE; docs/accelerator.md says what ERROR_INFO holds beside each."""

    NO_ERROR = 0
    BAD_DESCRIPTOR = 1
    OVERRUN = 2
    UNDERRUN = 3
    NOT_LOADED = 4
    BAD_BEAT = 5
    BUSY = 6

    @classmethod
    def words(cls, code: int) -> str:
        """A code for people."""
        known = code in set(cls)
        return cls(code).name.lower().replace("_", " ") if known else f"unknown error {code}"


LAYER_COUNTERS = {
    "LAYER_CYCLES": "cycles",
    "LAYER_BUSY": "busy_cycles",
    "LAYER_PRODUCTS": "products_done",
    "LAYER_ISOLATED": "products_isolated",
    "LAYER_SKIPPED": "products_skipped",
}
"""Counters of the layer LAYER_SELECT, and what `bacmac.host.compile.work.Work` calls them."""
