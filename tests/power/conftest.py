"""Tiny random models with images and plans on the emulated board; a synthetic sysfs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bacmac.host.arith.network import ConvOp, Requantize
from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.importers.images import ImageSet
from bacmac.host.model.layers import Normalization
from bacmac.host.model.quantized import ActivationFormat, QuantizedLayer, QuantizedModel
from bacmac.host.pack.file import PackedModel
from bacmac.overlays.registry import load_overlay
from bacmac.power.runs import Arm, ComparePlan

OVERLAYS = {"pot-4": "bac-pot4", "uniform-4": "mac-uniform4", "uniform-8": "mac-uniform8"}


def tiny_model(scheme: str, name: str = "tiny", channels: int = 16) -> QuantizedModel:
    """16 x 8 x 8 -> 3x3 convolution -> dense to 10, no zero weight."""
    rng = np.random.default_rng(5)
    levels = SCHEMES[scheme].levels
    levels = levels[levels != 0]
    first = ConvOp(
        0,
        rng.choice(levels, (32, channels, 3, 3)).astype(np.int8),
        rng.integers(-50, 50, 32).astype(np.int32),
        Requantize(np.full(32, 16384, np.uint16), np.full(32, 22, np.uint8), 0, 255),
        padding=(1, 1, 1, 1),
    )
    last = ConvOp(
        1,
        rng.choice(levels, (10, 32, 8, 8)).astype(np.int8),
        rng.integers(-50, 50, 10).astype(np.int32),
        None,
    )
    return QuantizedModel(
        name,
        (channels, 8, 8),
        ActivationFormat(1 / 255),
        Normalization(),
        (
            QuantizedLayer("conv", first, ActivationFormat(0.01), scheme, np.full(32, 0.01)),
            QuantizedLayer("dense", last, None, scheme, np.full(10, 0.01)),
        ),
        np.full(10, 1e-4),
    )


def tiny_arm(scheme: str, name: str = "tiny", channels: int = 16) -> Arm:
    model = tiny_model(scheme, name, channels)
    packed = PackedModel(f"{name}-{scheme}.safetensors", "ab" * 32, 1234, model, {}, {})
    return Arm(load_overlay(OVERLAYS[scheme]), packed)


def tiny_images(channels: int = 16, n: int = 12) -> ImageSet:
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 256, (n, channels, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 10, n).astype(np.int64)
    return ImageSet(pixels, labels, None, "tiny.npz", "cd" * 32)


@pytest.fixture
def make_plan() -> Callable[..., ComparePlan]:
    """Short plans of tiny models: make_plan(bac="pot-4", mac="uniform-8", **changes)."""

    def make(bac: str = "pot-4", mac: str = "uniform-8", **changes: object) -> ComparePlan:
        values: dict[str, object] = {"blocks": 4, "run_s": 4.0, "idle_s": 2.0, "warm_up_s": 0.2}
        values |= {"bac": tiny_arm(bac), "mac": tiny_arm(mac), "images": tiny_images()}
        return ComparePlan(**(values | changes))  # type: ignore[arg-type]

    return make


class Sysfs:
    """A synthetic /sys: hwmon devices behind I2C buses, and a system monitor under IIO."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hwmon = folder / "class" / "hwmon"
        self.iio = folder / "bus" / "iio" / "devices"
        self.hwmon.mkdir(parents=True)

    def bus(self, number: int, name: str) -> None:
        """Name an I2C bus, as "i2c-0-mux (chan_id 1)"."""
        bus = self.folder / "devices" / f"i2c-{number}"
        bus.mkdir(parents=True, exist_ok=True)
        (bus / "name").write_text(f"{name}\n")

    def chip(self, device: str, name: str, files: dict[str, object], label: str = "") -> Path:
        """A hwmon device; `device` is its path below devices/, as "i2c-4/4-0040"."""
        number = len(list(self.hwmon.iterdir()))
        home = self.folder / "devices" / device / "hwmon" / f"hwmon{number}"
        home.mkdir(parents=True)
        for file, value in {"name": name, **files}.items():
            (home / file).write_text(f"{value}\n")
        if label:
            (home / "label").write_text(f"{label}\n")
        (home / "device").symlink_to(self.folder / "devices" / device)
        (self.hwmon / f"hwmon{number}").symlink_to(home)
        return home

    def ams(self, name: str, files: dict[str, object]) -> Path:
        """An IIO device; a driver of another kind stands before it."""
        other = self.iio / "iio:device0"
        other.mkdir(parents=True)
        (other / "name").write_text("ina226\n")
        device = self.iio / "iio:device1"
        device.mkdir()
        for file, value in {"name": name, **files}.items():
            (device / file).write_text(f"{value}\n")
        return device


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    """An empty synthetic /sys."""
    return Sysfs(tmp_path / "sys")
