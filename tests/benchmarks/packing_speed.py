"""Packing 10 million weights: rates, the memory's own limit, FINN's bytes and FINN's speed.

Times are CPU time of this process (one thread), median of interleaved rounds, so that another
job on the machine disturbs a ratio little. FINN is not on PyPI: where its module
`finn.util.data_packing` can be imported it is timed. The two peers below were written for this
benchmark and pack in the two ways FINN has: its released packer element by element with
`bitstring` 3.1.7, and a later rewrite on its development branch bit by bit with NumPy. Slow ones
are timed on a slice and scaled per element.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.pack.packer import pack_codes, pack_finn, pack_levels

N = 10_000_000
COLUMNS = 64
ROUNDS = 9
SLOW_ROWS = 125  # 8,000 elements: about 0.2 s a call
MIDDLE_ROWS = 15_625  # 1,000,000 elements

Levels = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]


def pack_by_element(levels: Levels) -> Bytes:
    """Peer, in the way of FINN's released packer: one BitArray a number, appended to a row's."""
    from bitstring import BitArray

    def packed_row(row: npt.NDArray[np.float32]) -> str:
        line = BitArray(length=0)
        for value in np.flip(row):
            if not (-8 <= value <= 7 and float(value).is_integer()):
                raise ValueError(f"{value} is not an INT4")
            line.append(BitArray(int=int(value), length=4))
        line.prepend(BitArray(length=-len(line) % 8))
        return "0x" + str(line.hex)

    texts = np.apply_along_axis(packed_row, 1, levels.astype(np.float32))
    rows = [np.frombuffer(bytes.fromhex(text[2:]), np.uint8) for text in texts]
    return np.flip(np.stack(rows), axis=1)


def pack_by_bit(levels: Levels) -> Bytes:
    """Peer, in the way of FINN's later rewrite: numbers to bits, bits to bytes, in NumPy."""
    values = levels.astype(np.float32)
    if not ((values >= -8) & (values <= 7) & (values == np.floor(values))).all():
        raise ValueError("not INT4")
    codes = np.flip(values.astype(np.int64).astype(np.uint8) & 15, axis=1)
    bits = np.unpackbits(codes[:, :, None], axis=2)[:, :, 4:]
    return np.flip(np.packbits(bits.reshape(len(levels), -1), axis=1), axis=1)


def finn_itself() -> Callable[[Levels], Bytes] | None:
    """FINN's own packer, where FINN is installed."""
    try:
        module = importlib.import_module("finn.util.data_packing")
        int4 = importlib.import_module("qonnx.core.datatype").DataType["INT4"]
    except ModuleNotFoundError:
        return None
    return lambda levels: np.asarray(
        module.finnpy_to_packed_bytearray(levels, int4, reverse_inner=True, reverse_endian=True)
    )


def has_bitstring() -> bool:
    """Whether the element-by-element peer can run."""
    try:
        return importlib.import_module("bitstring").__version__ == "3.1.7"
    except ModuleNotFoundError:
        return False


def cpu_s(job: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    job()
    return time.process_time() - start


def main() -> None:
    """Print the rates, and the ratios measured in this run."""
    rng = np.random.default_rng(20260101)
    codes = rng.integers(0, 16, N, np.uint8)
    pot = rng.choice(SCHEMES["pot-4"].levels, N)
    int4 = rng.choice(SCHEMES["uniform-4"].levels, (N // COLUMNS, COLUMNS))

    slow: dict[str, tuple[Callable[[Levels], Bytes], int]] = {
        "peer: FINN's later rewrite, bit by bit in NumPy": (pack_by_bit, MIDDLE_ROWS)
    }
    if has_bitstring():
        name = "peer: FINN's released way, element by element"
        slow[name] = (pack_by_element, SLOW_ROWS)
    else:
        print("no element-by-element peer: it needs bitstring 3.1.7 (pip install 'bacmac[bench]')")
    finn = finn_itself()
    if finn is not None:
        slow["FINN itself (finn.util.data_packing)"] = (finn, SLOW_ROWS)
    else:
        print("FINN is not installed (it is not on PyPI): the peers stand for it")

    ours, target = pack_finn(int4, 4), np.zeros_like(codes)
    print("\nbytes of 10,000,000 INT4 in FINN's layout:")
    same = np.array_equal(ours.reshape(-1), pack_levels(int4.reshape(-1), "uniform-4"))
    print(f"  equal to the dense layout of uniform-4 (all of them): {same}")
    for name, (pack, rows) in slow.items():
        equal = np.array_equal(ours[:rows], pack(int4[:rows]))
        print(f"  equal to {name} ({rows * COLUMNS:,} numbers): {equal}")

    jobs: dict[str, tuple[Callable[[], object], int]] = {
        "memcpy of the 10 MB (limit)": (lambda: np.copyto(target, codes), N),
        "pack_codes, 4 bits": (lambda: pack_codes(codes, 4), N),
        "pack_levels, pot-4": (lambda: pack_levels(pot, "pot-4"), N),
        "pack_finn, INT4": (lambda: pack_finn(int4, 4), N),
    }
    for name, (pack, rows) in slow.items():
        part = int4[:rows]
        jobs[name] = (lambda pack=pack, part=part: pack(part), part.size)  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, (job, n) in jobs.items():
            times[name].append(cpu_s(job) / n)

    per_element = {name: statistics.median(values) for name, values in times.items()}
    finn_s = per_element["pack_finn, INT4"]
    title = f"median of {ROUNDS} rounds, CPU time"
    print(f"\n{title:52} {'numbers/s':>12}   pack_finn is")
    for name, seconds in per_element.items():
        note = "" if jobs[name][1] == N else f"   {seconds / finn_s:,.0f}x as fast"
        print(f"{name:52} {1 / seconds:12.4g}{note}")
    print("rows with a ratio were timed on a slice and scaled per element")


if __name__ == "__main__":
    main()
