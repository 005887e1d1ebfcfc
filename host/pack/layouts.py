"""Layouts of weights that other projects read: which there are, and a layer in each of them.

What each puts where is in its own module. A layer becomes a few files, and what a reader must know
beside its shape, scheme and scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import Levels, Scheme
from bacmac.host.pack.bits import Bytes, packed_size
from bacmac.host.pack.codes import pack_levels, unpack_levels
from bacmac.host.pack.layer_shape import LayerShape, from_matrix, to_matrix
from bacmac.host.pack.layout_deepshift import ShiftWords, pack_deepshift, unpack_deepshift
from bacmac.host.pack.layout_finn import (
    finn_bits,
    finn_type,
    pack_finn_levels,
    unpack_finn_levels,
)
from bacmac.host.pack.layout_potacc import APOT, BUFFERS, QKERAS, pack_potacc, unpack_potacc
from bacmac.host.pack.layout_words import from_coe, from_mem, to_coe, to_mem

Scales = npt.NDArray[np.float64]
Numbers = Mapping[str, "int | str | list[int]"]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer's weights, level * scale of the channel.

    Attributes:
        name: for people, in comments.
        levels: int8 or int16 of the shape.
        scheme: of the levels.
        scale: float64 (C_out,).
        shape: of the weights.
        word_bits: of a word in files of words.
    """

    name: str
    levels: Levels
    scheme: Scheme
    scale: Scales
    shape: LayerShape
    word_bits: int


@dataclass(frozen=True, eq=False)
class LayerFiles:
    """A layer in a foreign layout.

    Attributes:
        files: contents by suffix.
        numbers: what a reader must know beside the layer, as JSON has it.
        scale: float64 (C_out,): a weight is what the files say times this.
    """

    files: Mapping[str, bytes]
    scale: Scales
    numbers: Numbers = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A foreign layout.

    Attributes:
        name: on the command line.
        says: what it is, in half a line.
        suffixes: of a layer's files.
        write: a layer's files; ValueError where the layout cannot hold it, with the count.
        read: the levels (any integers) of a layer's files; of `LayerWeights` the levels are not
            looked at. ValueError for contents that `write` cannot have made.
    """

    name: str
    says: str
    suffixes: tuple[str, ...]
    write: Callable[[LayerWeights], LayerFiles]
    read: Callable[[LayerWeights, LayerFiles], npt.NDArray[np.integer]]


def _bytes(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)


def _write_finn(layer: LayerWeights) -> LayerFiles:
    rows = pack_finn_levels(to_matrix(layer.levels), layer.scheme)
    return LayerFiles({".bin": rows.tobytes()}, layer.scale, {"type": finn_type(layer.scheme)})


def _read_finn(layer: LayerWeights, files: LayerFiles) -> npt.NDArray[np.integer]:
    rows, columns = layer.shape.matrix
    n_bytes = -(-columns * finn_bits(layer.scheme) // 8)
    data = _bytes(files.files[".bin"])
    if data.size != rows * n_bytes:
        raise ValueError(f"{data.size} bytes, not {rows} rows of {n_bytes}")
    matrix = unpack_finn_levels(data.reshape(rows, n_bytes), columns, layer.scheme)
    return from_matrix(matrix, layer.shape)


def _potacc(name: str, says: str, encoding: Mapping[int, int]) -> Layout:
    suffixes = tuple(f".buffer{k}.bin" for k in range(BUFFERS))

    def write(layer: LayerWeights) -> LayerFiles:
        buffers = pack_potacc(to_matrix(layer.levels), encoding)
        contents = (part.tobytes() for part in buffers)
        return LayerFiles(dict(zip(suffixes, contents, strict=True)), layer.scale)

    def read(layer: LayerWeights, files: LayerFiles) -> npt.NDArray[np.integer]:
        buffers = tuple(_bytes(files.files[suffix]) for suffix in suffixes)
        return from_matrix(unpack_potacc(buffers, layer.shape.matrix, encoding), layer.shape)

    return Layout(name, says, suffixes, write, read)


def _write_deepshift(layer: LayerWeights) -> LayerFiles:
    mantissas, exponents = np.frexp(layer.scale)
    own = bool((mantissas == 0.5).all())
    if own:
        # scales that are powers of two are shifts themselves
        places, scale = exponents.astype(np.int64) - 1, np.ones_like(layer.scale)
    else:
        largest = int(np.abs(layer.levels.astype(np.int64)).max())
        top = max(largest.bit_length() - 1, 0)
        places = np.full(len(layer.scale), -top, np.int64)
        scale = layer.scale * 2.0**top
    packed = pack_deepshift(layer.levels, places)
    numbers = {"bits": packed.bits, "base": packed.base, "exponents": places.tolist()}
    return LayerFiles({".bin": packed.words.astype("<i4").tobytes()}, scale, numbers)


def _read_deepshift(layer: LayerWeights, files: LayerFiles) -> npt.NDArray[np.integer]:
    bits, base = cast(int, files.numbers["bits"]), cast(int, files.numbers["base"])
    exponents = np.array(files.numbers["exponents"], np.int64)
    data = files.files[".bin"]
    rows = layer.shape.weights[0]
    if len(data) % (4 * rows) or len(exponents) != rows:
        raise ValueError(f"{len(data)} bytes are not words of {rows} channels")
    words = np.frombuffer(data, "<i4").astype(np.int32).reshape(rows, -1)
    return unpack_deepshift(ShiftWords(words, bits, base), layer.shape.weights, exponents)


def _dense(layer: LayerWeights) -> Bytes:
    return pack_levels(cast(Levels, np.ascontiguousarray(layer.levels).reshape(-1)), layer.scheme)


def _from_dense(layer: LayerWeights, data: Bytes) -> Levels:
    return unpack_levels(data, layer.shape.n_weights, layer.scheme).reshape(layer.shape.weights)


def _write_bin(layer: LayerWeights) -> LayerFiles:
    return LayerFiles({".bin": _dense(layer).tobytes()}, layer.scale)


def _read_bin(layer: LayerWeights, files: LayerFiles) -> npt.NDArray[np.integer]:
    return _from_dense(layer, _bytes(files.files[".bin"]))


def _of_words(
    name: str,
    says: str,
    to_text: Callable[[Bytes, int, str], bytes],
    from_text: Callable[[bytes, int, int], Bytes],
) -> Layout:
    suffix = f".{name}"

    def write(layer: LayerWeights) -> LayerFiles:
        text = to_text(_dense(layer), layer.word_bits, f"{layer.name}, {layer.scheme.name}")
        return LayerFiles({suffix: text}, layer.scale, {"word_bits": layer.word_bits})

    def read(layer: LayerWeights, files: LayerFiles) -> npt.NDArray[np.integer]:
        n_bytes = packed_size(layer.shape.n_weights, layer.scheme.bits)
        word_bits = cast(int, files.numbers["word_bits"])
        return _from_dense(layer, from_text(files.files[suffix], word_bits, n_bytes))

    return Layout(name, says, (suffix,), write, read)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("finn", "FINN's rows of two's complement", (".bin",), _write_finn, _read_finn),
        _potacc("potacc", "PoTAcc's four buffers, codes of QKeras: no zero", QKERAS),
        _potacc("potacc-apot", "PoTAcc's four buffers, codes of APoT", APOT),
        Layout(
            "deepshift",
            "DeepShift's int32 words of shifts and signs",
            (".bin",),
            _write_deepshift,
            _read_deepshift,
        ),
        Layout("bin", "dense codes as they are", (".bin",), _write_bin, _read_bin),
        _of_words("mem", "dense codes for Verilog's $readmemh", to_mem, from_mem),
        _of_words("coe", "dense codes for a Vivado block memory", to_coe, from_coe),
    )
}
"""Foreign layouts by name."""
