"""What goes wrong on an emulated board, for tests; also from the command line, in the device word.

    bacmac run model.safetensors --images digits.npz --device functional:stall-send=4

Sends are the DMA's transfers to the accelerator: program, weights and constants are 0, 1 and 2,
the first batch is 3. Receives and batches are counted from 0. These counts begin when an overlay
is loaded; those of buffers, flushes and invalidates, from 0 too, when the board is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from bacmac.host.errors import DeviceError


@dataclass(frozen=True)
class Faults:
    """Each happens once, but for the registers and the clock, which read wrong all the time.

    Attributes:
        stall_send: this send never ends.
        drop_send: this send ends, and nothing arrives.
        short_send: this send's packet lacks its last beat.
        slave_error: this send ends in an AXI slave error.
        decode_error: this send ends in an AXI decode error.
        free_early: the buffer of this send is freed before it is read.
        stall_receive: this receive takes nothing.
        long_receive: this receive's packet is a beat longer than announced.
        stop_batch: in this batch the accelerator stops and counts no further.
        flip_output_bit: this bit of every output packet is inverted.
        wrong_id: what ID reads.
        build_id: what BUILD reads.
        clock_hz: what the clock reads back.
        fail_allocation: this buffer cannot be allocated.
        skip_flush: this flush is forgotten.
        skip_invalidate: this invalidate is forgotten.
    """

    stall_send: int | None = None
    drop_send: int | None = None
    short_send: int | None = None
    slave_error: int | None = None
    decode_error: int | None = None
    free_early: int | None = None
    stall_receive: int | None = None
    long_receive: int | None = None
    stop_batch: int | None = None
    flip_output_bit: int | None = None
    wrong_id: int | None = None
    build_id: int | None = None
    clock_hz: float | None = None
    fail_allocation: int | None = None
    skip_flush: int | None = None
    skip_invalidate: int | None = None


FAULT_OPTIONS = {field.name.replace("_", "-"): field.name for field in fields(Faults)}
"""Attribute of `Faults` by the option that sets it in a device word."""


def word_options(word: str) -> dict[str, str]:
    """The options after the colon of a device word; one without `=` has an empty value.

    >>> word_options("rtl:idle=0.3,seed=1")
    {'idle': '0.3', 'seed': '1'}
    """
    pairs = (option.partition("=") for option in word.partition(":")[2].split(",") if option)
    return {name: value for name, _, value in pairs}


def parse_faults(word: str, options: Mapping[str, str]) -> Faults:
    """The faults among these options of a device word, which holds no others.

    Raises:
        DeviceError: an option is none of `FAULT_OPTIONS`, or its value is no number.
    """
    values: dict[str, float] = {}
    for name, text in options.items():
        if name not in FAULT_OPTIONS:
            raise DeviceError(
                f"device {word!r}: there is no option {name!r}; faults to be emulated are "
                f"{', '.join(FAULT_OPTIONS)}, each with a number"
            )
        values[FAULT_OPTIONS[name]] = _number(word, name, text)
    return Faults(**values)  # type: ignore[arg-type]  # whole numbers but for the clock


def _number(word: str, name: str, text: str) -> float:
    """A whole number in any notation of Python's, or a frequency."""
    try:
        value = float(text) if name == "clock-hz" else int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 40:
        expected = "a frequency in Hz" if name == "clock-hz" else "a whole number, 0 or more"
        raise DeviceError(f"device {word!r}: {name}: found {text!r}; expected {expected}")
    return value
