"""Axes of TFLite tensors: where the image's rows, columns and channels are, step by step."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.network import Padding
from bacmac.host.importers.lowering import MAX_ELEMENTS, RefusedError
from bacmac.host.importers.tflite_file import MAX_AXES, TfliteGraph, TfliteOperator
from bacmac.host.importers.tflite_steps import Axes, Pair, spatial_axes

Ints = npt.NDArray[np.int64]

_MOVES = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "TRANSPOSE")
MAX_SIDE = 1 << 20
SAME, VALID = 0, 1


def window(way: int, sides: tuple[int, ...], kernel: Pair, stride: Pair) -> tuple[Padding, Pair]:
    """Padding (top, left, bottom, right) and places of a window; SAME or VALID.

    SAME as TensorFlow defines it: ceil(side / stride) places, the odd row or column of padding at
    the bottom or right.
    """
    if way not in (SAME, VALID):
        raise RefusedError(f"padding kind {way}", "SAME (0) or VALID (1)")
    if not all(1 <= each <= MAX_SIDE for each in (*stride, *kernel)):
        raise RefusedError(f"a window of {kernel} at steps {stride}", "one or more of each")
    before, after, places = [], [], []
    for side, k, s in zip(sides, kernel, stride, strict=True):
        count = -(-side // s) if way == SAME else (side - k) // s + 1
        missing = max((count - 1) * s + k - side, 0) if way == SAME else 0
        if count < 1:
            raise RefusedError(f"a window of {kernel} on {tuple(sides)}", "a smaller one")
        before.append(missing // 2)
        after.append(missing - missing // 2)
        places.append(count)
    return (before[0], before[1], after[0], after[1]), (places[0], places[1])


def named(axes: Axes) -> Axes:
    """The same axes, with letters where there is more than one entry and only there."""
    letters = [
        "".join(each for each in axes.letter(index) if axes.side(each) > 1)
        for index in range(len(axes.letters))
    ]
    return Axes(tuple(letters), axes.sides)


def input_axes(graph: TfliteGraph, operators: list[TfliteOperator]) -> Axes:
    """Rows, columns and channels of the input.

    Convolutions and pools see (N, rows, columns, channels). Reshapes and transposes between the
    input and the first of them (images channels first, images without a channel, features in one
    row) are followed, and then undone backwards.
    """
    chain: list[TfliteOperator] = []
    tensor = graph.input
    while True:
        readers = [each for each in operators if tensor in each.inputs]
        if len(readers) != 1 or readers[0].code not in _MOVES or len(chain) >= MAX_AXES:
            break
        chain.append(readers[0])
        tensor = readers[0].outputs[0]
    shapes = [_sides(graph, index) for index in (graph.input, *(c.outputs[0] for c in chain))]
    place = len(shapes) - 1
    if len(shapes[place]) != 3:
        place = next((i for i, shape in enumerate(shapes) if len(shape) == 3), 0)
    shape = shapes[place]
    if len(shape) == 3:
        axes = spatial_axes((shape[0], shape[1], shape[2]))
    elif len(shape) == 2:
        axes = named(Axes(("H", "W"), (shape[0], shape[1], 1)))
    elif len(shape) == 1:
        axes = named(Axes(("C",), (1, 1, shape[0])))
    else:
        raise RefusedError(f"an input of shape {shape}", "images or features")
    for operator, before in zip(reversed(chain[:place]), reversed(shapes[:place]), strict=True):
        if operator.code == "TRANSPOSE":
            permutation = _permutation(graph.tensor(operator.inputs[1]).integers, axes)
            letters = [""] * len(axes.letters)
            for index, word in enumerate(axes.letters):
                letters[permutation[index]] = word
            axes = Axes(tuple(letters), axes.sides)
            continue
        back = axes.reshaped(before)
        if back is None:
            raise RefusedError(f"an input of {before} seen as {axes.shape}", "whole axes")
        axes = back
    return axes


def _sides(graph: TfliteGraph, index: int) -> tuple[int, ...]:
    """The sides of an image in the input's shape, without N."""
    tensor = graph.tensor(index)
    if len(tensor.shape) < 2 or tensor.shape[0] != 1 or min(tensor.shape) < 1:
        raise RefusedError(
            f"{tensor.label} of shape {tensor.shape}",
            "one image of fixed size: (1, rows, columns, channels)",
        )
    if math.prod(tensor.shape) > MAX_ELEMENTS:
        raise RefusedError(f"{tensor.label} of shape {tensor.shape}", f"{MAX_ELEMENTS} values")
    return tensor.shape[1:]


def _permutation(values: npt.NDArray[np.integer], axes: Axes) -> list[int]:
    """Of the axes behind N, each from 0."""
    if values.size != len(axes.letters) + 1:
        raise RefusedError(f"a transpose of {values.size} axes", f"{len(axes.letters) + 1}")
    found = [int(each) for each in values.reshape(-1)]
    if sorted(found) != list(range(len(axes.letters) + 1)) or found[0] != 0:
        raise RefusedError(f"a transpose by {found}", "one that leaves N first")
    return [each - 1 for each in found[1:]]


def transposed(axes: Axes, values: Ints) -> Axes:
    """The axes after a TRANSPOSE."""
    return Axes(tuple(axes.letters[each] for each in _permutation(values, axes)), axes.sides)


def after_mean(axes: Axes, values: Ints, *, keep: bool) -> Axes:
    """The axes after a MEAN, which must be over all rows and columns and nothing else."""
    rank = len(axes.letters) + 1
    found = {int(each) + rank if each < 0 else int(each) for each in values.reshape(-1)}
    inside = found <= set(range(1, rank))
    gone = "".join(axes.letters[each - 1] for each in found) if inside else ""
    if not inside or set(gone) != {each for each in "HW" if axes.side(each) > 1}:
        raise RefusedError(f"a mean over axes {sorted(found)}", "rows and columns")
    letters = [
        "" if index + 1 in found else word
        for index, word in enumerate(axes.letters)
        if keep or index + 1 not in found
    ]
    return Axes(tuple(letters), (1, 1, axes.sides[2]))


def split_padding(axes: Axes, values: Ints) -> tuple[Padding, Pair]:
    """PAD's table by meaning: top, left, bottom, right; channels before and after."""
    if values.shape != (len(axes.letters) + 1, 2):
        raise RefusedError(f"a padding table {values.shape}", f"({len(axes.letters) + 1}, 2)")
    if values.min() < 0 or values.max() > MAX_SIDE or values[0].any():
        raise RefusedError(f"padding {values.tolist()}", "0 or more, and none for N")
    by_letter = dict.fromkeys("HWC", (0, 0))
    for index, (before, after) in enumerate(values[1:].tolist()):
        letter = axes.letter(index)
        if (before or after) and letter not in by_letter:
            raise RefusedError(f"padding of axes {axes.letters}", "rows, columns, channels")
        if before or after:
            by_letter[letter] = (before, after)
    rows, columns = by_letter["H"], by_letter["W"]
    return (rows[0], columns[0], rows[1], columns[1]), by_letter["C"]


def every_nth(axes: Axes, begin: Ints, end: Ints, step: Ints, masks: Pair) -> Pair:
    """The step over rows and columns of a STRIDED_SLICE that starts at the first of each."""
    shape = (1, *axes.shape)
    if not begin.shape == end.shape == step.shape == (len(shape),):
        raise RefusedError(f"a slice of {begin.shape}", f"({len(shape)},)")
    stride = {"H": 1, "W": 1}
    for index, side in enumerate(shape):
        first = 0 if masks[0] >> index & 1 else int(begin[index])
        last = side if masks[1] >> index & 1 else int(end[index])
        letter = axes.letter(index - 1) if index else "N"
        whole = first == 0 and last >= side and 1 <= step[index] <= MAX_SIDE
        if not whole or (step[index] > 1 and letter not in stride):
            raise RefusedError(
                f"a slice of axis {index} from {first} to {last} by {step[index]}",
                "every n-th row and column from the first",
            )
        if letter in stride:
            stride[letter] = int(step[index])
    return stride["H"], stride["W"]


def reshape_target(
    graph: TfliteGraph, operator: TfliteOperator, axes: Axes, known: dict[int, Ints]
) -> tuple[int, ...]:
    """The shape behind N that RESHAPE, SQUEEZE or EXPAND_DIMS asks for."""
    before = (1, *axes.shape)
    if operator.code == "SQUEEZE":
        dims = np.zeros(0, "<i4")
        if operator.options is not None:
            dims = operator.options.vector(0, np.dtype("<i4"))
        gone = {int(each) % len(before) for each in dims[:MAX_AXES]}
        if not gone or 0 in gone or any(before[each] != 1 for each in gone):
            raise RefusedError(f"a squeeze of axes {dims[:MAX_AXES].tolist()}", "sides of 1, not N")
        return tuple(side for index, side in enumerate(before) if index not in gone and index)
    if len(operator.inputs) > 1:
        index = operator.inputs[1]
        values = known[index] if index in known else graph.tensor(index).integers
    elif operator.options is not None and operator.code == "RESHAPE":
        values = operator.options.vector(0, np.dtype("<i4"))
    else:
        raise RefusedError("no new shape", "one in the file")
    wanted = [int(each) for each in values.reshape(-1)[: MAX_AXES + 1]]
    if operator.code == "EXPAND_DIMS":
        if len(wanted) != 1 or not -len(before) <= wanted[0] <= len(before):
            raise RefusedError(f"a new axis at {wanted}", "one behind N")
        place = wanted[0] % (len(before) + 1)
        if place == 0:
            raise RefusedError("a new axis before N", "one behind it")
        return (*before[1:place], 1, *before[place:])
    total = math.prod(before)
    if len(wanted) > MAX_AXES or len(wanted) < 2 or wanted.count(-1) > 1 or min(wanted) < -1:
        raise RefusedError(f"a reshape to {wanted}", "N, and at most one side left open")
    if -1 in wanted:
        rest = -math.prod(wanted)
        if rest < 1 or total % rest:
            raise RefusedError(f"a reshape of {before} to {wanted}", "the same number of values")
        wanted[wanted.index(-1)] = total // rest
    if wanted[0] != 1 or math.prod(wanted) != total:
        raise RefusedError(f"a reshape of {before} to {wanted}", "N first, and as many values")
    return tuple(wanted[1:])


def folded(
    graph: TfliteGraph,
    operator: TfliteOperator,
    axes: dict[int, Axes],
    known: dict[int, Ints],
) -> Ints:
    """The value of an operator on shapes, which converters leave in where N is open.

    SHAPE, STRIDED_SLICE of it, PACK of such numbers, and CAST.
    """
    if operator.code == "SHAPE" and operator.inputs and operator.inputs[0] in axes:
        return np.array([1, *axes[operator.inputs[0]].shape], np.int64)
    values: list[Ints] = []
    for index in operator.inputs:
        found = known[index] if index in known else graph.tensor(index).integers
        if found.size > MAX_AXES + 1:
            raise RefusedError(f"{found.size} numbers of a shape", f"at most {MAX_AXES + 1}")
        values.append(found.astype(np.int64))
    if operator.code == "CAST" and len(values) == 1:
        return values[0]
    if operator.code == "PACK" and values and len({each.shape for each in values}) == 1:
        packed: Ints = np.stack(values)
        return packed
    if operator.code == "STRIDED_SLICE" and len(values) == 4:
        vector, (begin, end, step) = values[0], (each.reshape(-1) for each in values[1:])
        single = vector.ndim == begin.size == end.size == step.size == 1
        if single and 0 <= begin[0] < vector.size and step[0] == 1:
            options = operator.options
            masks = [0 if options is None else options.integer(each, "i") for each in range(5)]
            if masks[4] & 1:
                picked: Ints = vector[int(begin[0])].reshape(())
                return picked
            first = None if masks[0] & 1 else int(begin[0])
            last = None if masks[1] & 1 else int(end[0])
            return vector[first:last]
    raise RefusedError(f"{operator.code} of a shape", "SHAPE, STRIDED_SLICE, PACK and CAST only")
