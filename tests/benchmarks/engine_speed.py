"""Images per CPU-second of the engine against named peers, in one interleaved run.

Run in an environment with the extra `bench`:

    python -P tests/benchmarks/engine_speed.py

Ratios are of process CPU time with one thread each, round by round, so that a busy machine
disturbs both sides alike. Printed, never asserted.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.engine import Engine
from bacmac.host.arith.network import IntegerNetwork
from bacmac.host.arith.reference import run_reference

sys.path.insert(0, str(Path(__file__).parent))
import engine_networks
import engine_peers

ROUNDS = 9
SECONDS_PER_CELL = 0.2
CHECKED_IMAGES = 16


def compare(name: str, network: IntegerNetwork, n_images: int) -> None:
    """Time all implementations of one network and print the table."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n_images, *network.input_shape), dtype=np.uint8)
    peers = {
        "bacmac engine": (Engine(network).run, n_images),
        "int32 einsum": (engine_peers.einsum_runner(network), n_images),
        f"onnxruntime {version('onnxruntime')} all-QLinear": (
            engine_peers.onnxruntime_runner(network),
            n_images,
        ),
        f"qonnx {version('qonnx')} executor, batch 1": (engine_peers.qonnx_runner(network), 1),
    }
    expected = run_reference(network, images[:CHECKED_IMAGES])
    differing = {
        peer: np.count_nonzero(run(images[:CHECKED_IMAGES]) != expected)
        for peer, (run, _) in peers.items()
    }
    rates: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(ROUNDS):
        for peer, (run, batch) in peers.items():
            rates[peer].append(images_per_cpu_second(run, images[:batch]))
    ours = np.array(rates["bacmac engine"])
    print(f"\n{name}, {n_images} images, {ROUNDS} rounds, 1 thread, numpy {np.__version__}")
    print(f"{'':42}{'img/CPU-s':>10}  {'engine / peer':>13}  {'[min max]':>17}  differing logits")
    for peer in peers:
        ratio = ours / np.array(rates[peer])
        print(
            f"{peer:42}{np.median(rates[peer]):10.1f}  {np.median(ratio):13.3f}  "
            f"[{ratio.min():7.3f} {ratio.max():7.3f}]  {differing[peer]} of {expected.size}"
        )


def images_per_cpu_second(run: engine_peers.Run, images: npt.NDArray[np.uint8]) -> float:
    """Repeat until enough CPU time has passed to be measured."""
    n_calls, start = 0, time.process_time()
    while (spent := time.process_time() - start) < SECONDS_PER_CELL:
        run(images)
        n_calls += 1
    return n_calls * len(images) / spent


def main() -> None:
    """Print the tables for ResNet-20 and LeNet-5."""
    compare("ResNet-20 (3x32x32)", engine_networks.resnet20(), 96)
    compare("LeNet-5 (1x28x28)", engine_networks.lenet5(), 512)


if __name__ == "__main__":
    main()
