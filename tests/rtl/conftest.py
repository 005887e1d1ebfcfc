"""Small overlays for the RTL, and a driver's whole view of a batch."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.driver import Driver
from bacmac.host.device.registry import open_board
from bacmac.host.manifest.overlay import Buffers, Geometry
from bacmac.overlays.registry import load_overlay

SMALL = Buffers(1 << 15, 1 << 17, 12 * 1024, 1 << 14, 16)


def small_overlay(name, outputs, inputs, tile):
    """An overlay with another array and small memories, which is built and simulated fast."""
    overlay = load_overlay(name)
    geometry = Geometry(inputs, outputs, tile, inputs, outputs)
    manifest = replace(
        overlay.manifest,
        name=f"{name}-{outputs}x{inputs}",
        geometry=geometry,
        buffers=SMALL,
        beat_bytes=inputs,
    )
    return replace(overlay, manifest=manifest)


OTHERS = ("codes", "outputs", "stall_in_cycles", "stall_out_cycles")


@dataclass
class Ran:
    """Batches and layers, as a driver gives them."""

    batches: list
    layers: list

    def numbers(self):
        """Everything but images, outputs, times and how long the host's streams were waited for."""
        return [
            {
                name: value
                for name, value in vars(batch).items()
                if name not in OTHERS and not name.endswith("_ns")
            }
            for batch in self.batches
        ]


def drive(word, overlay, model, batches, passes=1):
    """Run batches of input codes on a device; counters of the layers after each.

    Of a batch as many images as stay on chip: small memories may hold one.
    """
    program = compile_model(model, overlay)
    batches = [codes[: program.max_batch] for codes in batches]
    board = open_board(word)
    driver = Driver(board, program, max(map(len, batches)))
    ran = Ran([], [])
    try:
        driver.open()
        for codes in batches:
            ran.batches.append(driver.repeat(codes, passes))
            ran.layers.append(driver.layer_counters())
    finally:
        driver.close()
        board.close()
    return ran


@pytest.fixture(scope="session")
def rtl():
    """This module: tests have no package of their own."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def wild():
    """tests/rtl/wild_models.py."""
    name = "wild_models"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
