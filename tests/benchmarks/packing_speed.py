"""Packing and unpacking 10 million weights in every format: rates, bytes, and named peers.

Times are CPU time of this process (one thread), median of interleaved rounds, so that another
job on the machine disturbs a ratio little. Rates count all weights, zeros too.

Peers: SciPy's sparse matrices, which make and undo the same coordinates (COO) and rows (CSR) but
neither code nor pack them; NumPy's packbits for one-bit codes; and FINN for its own bytes. FINN is
not on PyPI: where its module `finn.util.data_packing` can be imported it is timed. The two peers
for it were written for this benchmark and pack in the two ways FINN has: its released packer
element by element with `bitstring` 3.1.7, and a later rewrite on its development branch bit by bit
with NumPy. Slow ones are timed on a slice and scaled per element.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.pack.bits import pack_codes, unpack_codes
from bacmac.host.pack.codes import pack_levels
from bacmac.host.pack.formats import Packer, packer
from bacmac.host.pack.layer_shape import LayerShape, to_matrix
from bacmac.host.pack.layout_finn import pack_finn, unpack_finn
from bacmac.host.pack.stream import MAX_SLOTS

SHAPE = LayerShape((1024, 1088, 3, 3))
N = SHAPE.n_weights
STREAM = LayerShape((512, 512, 3, 3))
COLUMNS = 64
ROUNDS = 5
SLOW_ROWS = 125  # 8,000 elements: about 0.2 s a call
MIDDLE_ROWS = 15_625  # 1,000,000 elements

Levels = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]
Job = Callable[[], object]


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


def cpu_s(job: Job) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    job()
    return time.process_time() - start


def rates(jobs: dict[str, tuple[Job, Job, int]]) -> dict[str, tuple[float, float]]:
    """Weights a second, there and back, of (pack, unpack, weights), all jobs in every round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, (pack, unpack, _) in jobs.items():
            times[name].append((cpu_s(pack), cpu_s(unpack)))
    return {
        name: (
            jobs[name][2] / statistics.median(one for one, _ in both),
            jobs[name][2] / statistics.median(two for _, two in both),
        )
        for name, both in times.items()
    }


def print_rates(title: str, jobs: dict[str, tuple[Job, Job, int]], sizes: dict[str, float]) -> None:
    """One row a job, and the slowest."""
    measured = rates(jobs)
    print(f"\n{title:48} {'pack':>12} {'unpack':>12}  bits/weight")
    for name, (there, back) in measured.items():
        size = f"{sizes[name]:10.3f}" if name in sizes else ""
        print(f"{name:48} {there / 1e6:8,.0f} M/s {back / 1e6:8,.0f} M/s {size}")
    ours = {name: both for name, both in measured.items() if not name.startswith("peer")}
    slowest = min(ours, key=lambda name: min(ours[name]))
    print(f"slowest of ours: {slowest}, {min(ours[slowest]) / 1e6:,.0f} million weights a second")


def dense_rates(rng: np.random.Generator) -> None:
    """Every scheme, and codes of every width."""
    jobs: dict[str, tuple[Job, Job, int]] = {}
    sizes = {}
    dense = packer("dense")
    for scheme in SCHEMES.values():
        levels = rng.choice(scheme.levels, SHAPE.weights)
        data = dense.pack(levels, scheme, SHAPE)
        jobs[scheme.name] = (
            lambda levels=levels, scheme=scheme: dense.pack(levels, scheme, SHAPE),  # type: ignore[misc]
            lambda data=data, scheme=scheme: dense.unpack(data, scheme, SHAPE),  # type: ignore[misc]
            N,
        )
        sizes[scheme.name] = 8 * data.size / N
    for bits in (1, 2, 3, 5, 6, 7, 8, 9, 12, 16):
        codes = rng.integers(0, 1 << bits, N, np.uint16).astype(np.uint16 if bits > 8 else np.uint8)
        data = pack_codes(codes, bits)
        jobs[f"codes of {bits} bits"] = (
            lambda codes=codes, bits=bits: pack_codes(codes, bits),  # type: ignore[misc]
            lambda data=data, bits=bits: unpack_codes(data, N, bits),  # type: ignore[misc]
            N,
        )
    ones = rng.integers(0, 2, N, np.uint8)
    packed = np.packbits(ones, bitorder="little")
    jobs["peer: numpy.packbits, 1 bit"] = (
        lambda: np.packbits(ones, bitorder="little"),
        lambda: np.unpackbits(packed, bitorder="little"),
        N,
    )
    print_rates(f"dense, {N:,} weights", jobs, sizes)


def sparse_rates(rng: np.random.Generator, zeros: float) -> None:
    """Formats that leave zeros out, at a share of zeros."""
    scheme = SCHEMES["pot-4"]
    levels = rng.choice(scheme.levels[scheme.levels != 0], SHAPE.weights)
    levels[rng.random(SHAPE.weights) < zeros] = 0
    ordered = levels.copy()
    # two of four stay, so that the pattern has what it needs
    fours = ordered.transpose(0, 2, 3, 1).reshape(-1, 4)
    fours[:, 2:] = 0
    ordered = fours.reshape(1024, 3, 3, 1088).transpose(0, 3, 1, 2)
    wide = rng.choice(SCHEMES["pot-5"].levels, SHAPE.weights)
    wide[rng.random(SHAPE.weights) < zeros] = 0
    small = np.ascontiguousarray(levels[:512, :512])
    cases: list[tuple[str, Packer, npt.NDArray[np.integer], str, LayerShape]] = [
        ("bitmap", packer("bitmap"), levels, "pot-4", SHAPE),
        ("bitmap, pot-5", packer("bitmap"), wide, "pot-5", SHAPE),
        ("coo", packer("coo"), levels, "pot-4", SHAPE),
        ("nm-2:4", packer("nm-2:4"), ordered, "pot-4", SHAPE),
        (f"stream-16x16, at most {MAX_SLOTS:,}", packer("stream-16x16"), small, "pot-4", STREAM),
    ]
    jobs: dict[str, tuple[Job, Job, int]] = {}
    sizes = {}
    for name, how, of, known, shape in cases:
        its = SCHEMES[known]
        data = how.pack(of, its, shape)  # type: ignore[arg-type]
        assert data.size == how.size(of, its, shape)  # type: ignore[arg-type]
        jobs[name] = (
            lambda how=how, of=of, its=its, shape=shape: how.pack(of, its, shape),  # type: ignore[misc]
            lambda how=how, data=data, its=its, shape=shape: how.unpack(data, its, shape),  # type: ignore[misc]
            shape.n_weights,
        )
        sizes[name] = 8 * data.size / shape.n_weights
    matrix = to_matrix(levels)
    coo, csr = sparse.coo_matrix(matrix), sparse.csr_matrix(matrix)
    jobs["peer: scipy.sparse COO, nothing packed"] = (
        lambda: sparse.coo_matrix(matrix),
        lambda: coo.toarray(),
        N,
    )
    jobs["peer: scipy.sparse CSR, nothing packed"] = (
        lambda: sparse.csr_matrix(matrix),
        lambda: csr.toarray(),
        N,
    )
    for known, form in (("COO", coo), ("CSR", csr)):
        parts = (form.row, form.col, form.data) if known == "COO" else (
            form.indices, form.indptr, form.data)  # fmt: skip
        n_bytes = sum(part.nbytes for part in parts)
        sizes[f"peer: scipy.sparse {known}, nothing packed"] = 8 * n_bytes / N
    print_rates(f"{zeros:.0%} zeros, {N:,} weights", jobs, sizes)


def finn_rates(rng: np.random.Generator) -> None:
    """FINN's bytes and FINN's speed."""
    int4 = rng.choice(SCHEMES["uniform-4"].levels, (N // COLUMNS, COLUMNS))
    slow: dict[str, tuple[Callable[[Levels], Bytes], int]] = {
        "peer: FINN's later rewrite, bit by bit in NumPy": (pack_by_bit, MIDDLE_ROWS)
    }
    if has_bitstring():
        slow["peer: FINN's released way, element by element"] = (pack_by_element, SLOW_ROWS)
    else:
        print("no element-by-element peer: it needs bitstring 3.1.7 (pip install 'bacmac[bench]')")
    finn = finn_itself()
    if finn is not None:
        slow["peer: FINN itself (finn.util.data_packing)"] = (finn, SLOW_ROWS)
    else:
        print("FINN is not installed (it is not on PyPI): the peers stand for it")
    ours = pack_finn(int4, 4)
    print(f"\nbytes of {int4.size:,} INT4 in FINN's layout:")
    same = np.array_equal(ours.reshape(-1), pack_levels(int4.reshape(-1), "uniform-4"))
    print(f"  equal to the dense layout of uniform-4 (all of them): {same}")
    for name, (pack, rows) in slow.items():
        equal = np.array_equal(ours[:rows], pack(int4[:rows]))
        print(f"  equal to {name} ({rows * COLUMNS:,} numbers): {equal}")
    jobs: dict[str, tuple[Job, Job, int]] = {
        "pack_finn, INT4": (
            lambda: pack_finn(int4, 4),
            lambda: unpack_finn(ours, COLUMNS, 4),
            int4.size,
        )
    }
    for name, (pack, rows) in slow.items():
        part = int4[:rows]
        jobs[f"{name} (no way back)"] = (
            lambda pack=pack, part=part: pack(part),  # type: ignore[misc]
            lambda pack=pack, part=part: pack(part),  # type: ignore[misc]
            part.size,
        )
    print_rates("FINN's layout", jobs, {})


def main() -> None:
    """Print the rates, and what this run compared."""
    rng = np.random.default_rng(20260101)
    print(f"median of {ROUNDS} rounds, CPU time of one thread")
    dense_rates(rng)
    for zeros in (0.5, 0.9):
        sparse_rates(rng, zeros)
    finn_rates(rng)


if __name__ == "__main__":
    main()
