"""The tape: one flat list of NumPy calls on preallocated arrays, made once and run per block.

Everything that depends only on the network (shapes, proofs, views, scale factors) is settled when
the tape is made; running it is calls alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Requantize
from bacmac.host.arith.slab import Array, Target


class Tape:
    """Calls in order, and the scratch memory that they share."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._scratch: dict[tuple[str, tuple[int, ...], str], Array] = {}

    def add(self, function: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Append a call."""
        self._calls.append(partial(function, *args, **kwargs))

    def run(self) -> None:
        """Make all calls."""
        for call in self._calls:
            call()

    def scratch(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> Array:
        """Memory that every user of the same name, shape and dtype overwrites; zeros at first."""
        key = name, shape, dtype
        if key not in self._scratch:
            self._scratch[key] = np.zeros(shape, dtype)
        return self._scratch[key]


def add_store(
    tape: Tape,
    values: Array,
    rows: slice,
    targets: Sequence[Target],
    rounding: np.ufunc | None = None,
) -> None:
    """Write values (rows, C, width, images) to rows of every target, rounded on the way."""
    if rounding is not None and len(targets) > 1:
        tape.add(rounding, values, out=values)
        rounding = None
    for target in targets:
        out, source = target.view[rows], target.source(values)
        if rounding is None:
            tape.add(np.copyto, out, source, casting="unsafe")
        else:
            tape.add(rounding, source, out=out)


def add_requantize(
    tape: Tape,
    acc: Array,
    how: Requantize,
    exact: npt.NDArray[np.bool_],
    residual: Array | None,
    rows: slice,
    targets: Sequence[Target],
) -> None:
    """Requantize accumulators (rows, C, width, images) in place and store them.

    float32 accumulators take float32 for the channels that are proven `exact`, and float64 for
    the others; float64 accumulators take float64 throughout (`requantize` has the proofs). The
    clamp comes before the rounding, which then stores: its bounds are integers, so that the order
    does not matter. Zero columns at the end of rows stay zero: 0 requantizes to 0, and the
    residual's are zero.
    """
    if residual is not None:
        residual = residual[:, :, : acc.shape[2]]
    doubtful = np.flatnonzero(~exact)
    if acc.dtype == np.float64:
        doubtful = doubtful[:0]
    picked = tape.scratch("picked", (len(acc), len(doubtful), *acc.shape[2:]), "float64")
    if doubtful.size:
        tape.add(_pick, acc, doubtful, picked)
        added = None
        if residual is not None:
            shape = (*picked.shape[:2], *residual.shape[2:])
            added = tape.scratch("picked residual", shape, "float64")
            tape.add(_pick, residual, doubtful, added)
        tape.add(_add_scale(tape, picked, how, doubtful, added), picked, out=picked)
    rounding = _add_scale(tape, acc, how, slice(None), residual)
    if doubtful.size:
        tape.add(_put, picked, doubtful, acc)
    low, high = acc.dtype.type(how.low), acc.dtype.type(how.high)
    tape.add(np.clip, acc, low, high, out=acc)
    if rounding is np.floor:
        # the half that was added must not stay in the zeros at the end of the rows
        tape.add(np.floor, acc, out=acc)
        add_store(tape, acc, rows, targets)
    else:
        add_store(tape, acc, rows, targets, rounding)


def _add_scale(
    tape: Tape, acc: Array, how: Requantize, channels: Any, residual: Array | None
) -> np.ufunc:
    """Turn acc into what the returned ufunc rounds, in acc's own precision."""
    unit = 2.0 ** -how.shift[channels].astype(np.float64)
    tape.add(np.multiply, acc, _factors(how.multiplier[channels] * unit, acc), out=acc)
    if residual is None and acc.dtype == np.float32:
        return np.rint  # as certified; the others meet ties exactly and must break them upwards
    if residual is not None:
        assert how.residual_multiplier is not None
        scaled = tape.scratch("residual", residual.shape, acc.dtype.name)
        factors = _factors(how.residual_multiplier[channels] * unit, scaled)
        tape.add(np.multiply, residual, factors, out=scaled)
        part = acc[:, :, : residual.shape[2]]
        tape.add(np.add, part, scaled, out=part)
    tape.add(np.add, acc, acc.dtype.type(0.5), out=acc)
    return np.floor


def _pick(source: Array, channels: npt.NDArray[np.intp], out: Array) -> None:
    np.copyto(out, source[:, channels])


def _put(source: Array, channels: npt.NDArray[np.intp], out: Array) -> None:
    out[:, channels] = source


def _factors(values: Array, like: Array) -> Array:
    """Values (C,) to multiply (rows, C, width, images) with: one number, or a whole row.

    NumPy's inner loop is then as long as the row; a column of factors would end it at every
    channel, which was measured to take 1.7 times as long.
    """
    same = bool((values == values[0]).all())
    shape = (1, 1, 1) if same else like.shape[1:]
    factors: Array = np.broadcast_to(values[: shape[0], None, None], shape).astype(like.dtype)
    return factors
