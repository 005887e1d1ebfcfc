"""Which arrays fit a ZCU104, and which networks are held whole on them. Prints; needs `synth`.

    python -P tests/benchmarks/fit.py

The first run maps each array, some minutes each; netlists are kept. Cycles and bytes are the
compiler's, exact; area is an estimate by yosys (bacmac.overlays.estimate.synthesis).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from bacmac.host.compile.compiler import compile_model
from bacmac.host.errors import CompileError
from bacmac.host.manifest.overlay import Buffers
from bacmac.overlays.estimate.configurations import Configuration, find_configurations
from bacmac.overlays.estimate.synthesis import CAPACITY, copies_that_fit, estimate_utilisation

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from random_models import mobilenet_v2, resnet20

ARRAYS = ((16, 16), (32, 16), (32, 32))
MANY = 1 << 24


def for_resnet(buffers: Buffers) -> Buffers:
    """Memories for two accelerators side by side: ResNet-20, a batch of about ten images."""
    return replace(
        buffers,
        activation_bytes=0x20000,
        weight_bytes=0x40000,
        constant_bytes=0xC000,
        program_bytes=0x8000,
    )


def for_mobilenet(buffers: Buffers) -> Buffers:
    """Memories for MobileNetV2, whose depthwise layers need more the larger the array is."""
    return replace(buffers, weight_bytes=0x240000)


def main() -> None:
    for name in ("bac-pot4", "bac-pot4e4", "mac-uniform4", "mac-uniform8"):
        (configuration,) = find_configurations([name])
        _networks(configuration)
    for name in ("bac-pot4", "mac-uniform4", "mac-uniform8"):
        (configuration,) = find_configurations([name])
        for inputs, outputs in ARRAYS:
            for sized in (for_mobilenet, for_resnet):
                buffers = sized(configuration.manifest.buffers)
                _area(configuration.resized(inputs, outputs, buffers), sized.__name__)


def _networks(configuration: Configuration) -> None:
    for build in (resnet20, mobilenet_v2):
        model = build(configuration.manifest.scheme)
        for inputs, outputs in ARRAYS:
            buffers = configuration.manifest.buffers
            endless = replace(
                buffers, weight_bytes=MANY, constant_bytes=MANY // 3 * 3, program_bytes=MANY
            )
            sized = configuration.resized(inputs, outputs, endless)
            program = compile_model(model, sized.overlay)
            try:
                compile_model(model, configuration.resized(inputs, outputs).overlay)
                fits = "fits the manifest's memories"
            except CompileError as error:
                fits = f"refused: {error}"
            print(
                f"{model.name:20} {sized.name:20} weights {len(program.weight_image):9,} "
                f"constants {len(program.constant_image):7,} program "
                f"{len(program.program_image):7,} activations {program.plan.peak_bytes:7,} B, "
                f"{program.image_work.cycles:9,} cycles; {fits}"
            )


def _area(configuration: Configuration, memories: str) -> None:
    total = estimate_utilisation(configuration).total
    copies = copies_that_fit(total)
    shares = ", ".join(
        f"{name} {getattr(total, name):,.0f} ({getattr(total, name) / getattr(CAPACITY, name):.1%})"
        for name in ("lut_sites", "lut", "ff", "dsp", "bram36", "uram")
    )
    print(
        f"{configuration.name:20} {memories:14} {shares}; {copies} side by side, "
        f"{copies * configuration.n_products} products a cycle",
        flush=True,
    )


if __name__ == "__main__":
    main()
