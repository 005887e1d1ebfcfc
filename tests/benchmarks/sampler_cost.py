"""What sampling costs: all ten rails of a ZCU104 at 20 ms, on this machine, from files.

The files stand in for sysfs (those of a board take an I2C transfer each, which sleeps); period,
jitter and processor time are this machine's. Nothing is asserted.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from bacmac.host.device.clock import RealClock
from bacmac.power.hwmon import HwmonRails
from bacmac.power.sampler import DEFAULT_PERIOD_NS, Sampler

SECONDS = 20.0
CHIPS = {
    ("irps5401", 0x43): {2: (851, 4375, 3500000), 3: (1804, 328, 562500), 4: (1203, 234, 281250),
                         5: (898, 128, 109375)},
    ("irps5401", 0x44): {2: (3304, 625, 2000000), 3: (1125, 218, 218750), 4: (5000, 0, 0),
                         5: (1800, 10, 31250), 6: (835, 39, 31250)},
}  # fmt: skip
"""Voltage, current and power by output, as PYNQ's notebook of the board prints them."""


def make_tree(root: Path) -> None:
    """A hwmon folder with the three chips."""
    for number, ((name, address), outputs) in enumerate(CHIPS.items()):
        chip = _chip(root, number, name, 4, address)
        for index, (voltage, current, power) in outputs.items():
            for kind, value in (("in", voltage), ("curr", current), ("power", power)):
                (chip / f"{kind}{index}_input").write_text(f"{value}\n")
    chip = _chip(root, 2, "ina226", 5, 0x40)
    values = {"in0": 6, "in1": 12113, "curr1": 1159, "power1": 14050000}
    for name, value in values.items():
        (chip / f"{name}_input").write_text(f"{value}\n")


def _chip(root: Path, number: int, name: str, bus: int, address: int) -> Path:
    chip, device = root / f"hwmon{number}", root / "devices" / f"{bus}-{address:04x}"
    chip.mkdir(parents=True)
    device.mkdir(parents=True)
    (chip / "name").write_text(f"{name}\n")
    (chip / "device").symlink_to(device)
    return chip


def main() -> None:
    """Sample and print."""
    clock = RealClock()
    with tempfile.TemporaryDirectory() as folder:
        make_tree(Path(folder))
        rails = HwmonRails(clock, Path(folder), "zcu104")
        names = [info.name for info in rails.rails()]
        sampler = Sampler(rails, clock)
        idle_cpu = time.process_time()
        time.sleep(1.0)
        idle_cpu = time.process_time() - idle_cpu
        cpu, wall = time.process_time(), time.monotonic()
        sampler.start()
        time.sleep(SECONDS)
        trace = sampler.stop()
        cpu, wall = time.process_time() - cpu - idle_cpu * SECONDS, time.monotonic() - wall
    first = trace.rails[names[0]]
    gaps_ms = np.diff(first.times_ns) * 1e-6
    spread_ms = (trace.rails[names[-1]].times_ns - first.times_ns) * 1e-6
    missed = round(wall * 1e9 / DEFAULT_PERIOD_NS) - len(first.times_ns)
    print(f"{len(names)} rails ({', '.join(names)}), {SECONDS:g} s at 20 ms with +-6 ms of jitter")
    print(
        f"achieved period: {gaps_ms.mean():.3f} ms; {len(first.times_ns)} rounds, {missed} missed"
    )
    print(
        f"between rounds: {gaps_ms.min():.1f} to {gaps_ms.max():.1f} ms, sd {gaps_ms.std():.2f} ms "
        f"(the intended jitter alone: sd {12 / np.sqrt(12) * np.sqrt(2):.2f} ms)"
    )
    print(f"first to last rail of a round: median {np.median(spread_ms):.3f} ms")
    print(f"processor: {cpu / wall:.2%} of one core (wanted: 2 % or less)")


if __name__ == "__main__":
    main()
