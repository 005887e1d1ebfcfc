"""Dense codes as plain bytes and as memory images for Verilog and Vivado.

The bit stream is that of the dense format, codes in the order of the weights' shape. In words of W
bits, word i holds bits i W to i W + W - 1 of it, the last filled with zero bits.

`.mem` is what `$readmemh` reads (IEEE 1800-2017, 21.4): an address, then a word a line. `.coe` is a
Vivado block memory's initialization (UG1118, "COE file syntax"): radix 16, then the words.
"""

from __future__ import annotations

import re
from typing import cast

import numpy as np

from bacmac.host.pack.bits import Bytes

WORD_BITS = (8, 16, 32, 64, 128, 256, 512, 1024)
_MEM = re.compile(rb"(?://[^\n]*\n)?@0{8}\n((?:[0-9a-f]+\n)+)")
_COE = re.compile(
    rb"(?:;[^\n]*\n)?memory_initialization_radix=16;\nmemory_initialization_vector=\n"
    rb"((?:[0-9a-f]+,\n)*[0-9a-f]+);\n"
)


def to_mem(data: Bytes, word_bits: int, comment: str) -> bytes:
    """Bytes as a `$readmemh` file."""
    words = _words(data, word_bits)
    return f"// {_ascii(comment)}\n@00000000\n{chr(10).join(words)}\n".encode("ascii")


def from_mem(text: bytes, word_bits: int, n_bytes: int) -> Bytes:
    """Undo `to_mem`; ValueError for another text."""
    found = _MEM.fullmatch(text)
    if not found:
        raise ValueError("not an address and a word a line")
    return _bytes(found[1].split(), word_bits, n_bytes)


def to_coe(data: Bytes, word_bits: int, comment: str) -> bytes:
    """Bytes as a Vivado memory initialization."""
    words = ",\n".join(_words(data, word_bits))
    head = "memory_initialization_radix=16;\nmemory_initialization_vector=\n"
    return f"; {_ascii(comment)}\n{head}{words};\n".encode("ascii")


def from_coe(text: bytes, word_bits: int, n_bytes: int) -> Bytes:
    """Undo `to_coe`; ValueError for another text."""
    found = _COE.fullmatch(text)
    if not found:
        raise ValueError("not a radix of 16 and a vector of words")
    return _bytes(found[1].replace(b",", b" ").split(), word_bits, n_bytes)


def _words(data: Bytes, word_bits: int) -> list[str]:
    width = word_bits // 8
    padded = np.zeros((-(-data.size // width), width), np.uint8)
    padded.reshape(-1)[: data.size] = data
    digits = padded[:, ::-1].tobytes().hex()
    return [digits[at : at + 2 * width] for at in range(0, len(digits), 2 * width)]


def _bytes(words: list[bytes], word_bits: int, n_bytes: int) -> Bytes:
    width = word_bits // 8
    if len(words) != -(-n_bytes // width) or any(len(word) != 2 * width for word in words):
        raise ValueError(f"{len(words)} words, not {-(-n_bytes // width)} of {word_bits} bits")
    rows = np.frombuffer(bytes.fromhex(b"".join(words).decode("ascii")), np.uint8)
    data = rows.reshape(len(words), width)[:, ::-1].reshape(-1)
    if data[n_bytes:].any():
        raise ValueError("the last word is not filled with zero bits")
    return cast(Bytes, np.ascontiguousarray(data[:n_bytes]))


def _ascii(text: str) -> str:
    """Printable ASCII, so that every tool reads the comment."""
    return text.encode("unicode_escape").decode("ascii")
