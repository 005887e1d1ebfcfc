"""What is so beside a run: clocks, boot, registers, temperatures, processors, disk.

Read before the first idle window of a run and after its last, never inside a window. What the
machine does not tell is None or left out; a check that needs it then says so.

Sources: /proc/stat, /proc/self/stat and boot_id, proc(5); /proc/diskstats, Linux
`Documentation/admin-guide/iostats.rst` (field 7, sectors of 512 bytes written); frequency,
`Documentation/admin-guide/pm/cpufreq.rst`; alarms, `Documentation/hwmon/sysfs-interface.rst`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bacmac.host.device.board import Board
from bacmac.host.errors import RailError
from bacmac.host.manifest.overlay import Overlay
from bacmac.power.ams import Ams
from bacmac.power.campaign.run import Surroundings
from bacmac.power.campaign.state_faults import spoil_state
from bacmac.power.emulated import EmulatedRails
from bacmac.power.rails import RailSource
from bacmac.power.sources import ams_of

SECTOR_BYTES = 512
PERIODIC_THREAD = "bacmac-periodic"
"""Name of the thread that samples, see `bacmac.host.device.clock`."""


class SurroundingsSource(Protocol):
    """Something that can tell what is so beside a run."""

    def boot_id(self) -> str | None:
        """Of the kernel that runs; None where there is none."""

    def flush(self) -> None:
        """Have everything written that is still to be: later it would be in a window."""

    def read(self, board: Board, overlay: Overlay) -> Surroundings:
        """What is so now; the overlay is loaded.

        Raises:
            DeviceError: the device does not answer.
        """


def open_surroundings(board: Board, rails: RailSource) -> SurroundingsSource:
    """Those of the machine that a board and real sensors are on, else those of a model."""
    if board.provenance == "board" and not rails.emulated:
        return MachineSurroundings(ams=ams_of(rails))
    return EmulatedSurroundings(rails)


@dataclass(frozen=True)
class MachineSurroundings:
    """Those of the machine that this process runs on.

    Attributes:
        proc, sys: where these file systems are.
        ams: the system monitor, or None where there is none.
    """

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    ams: Ams | None = None

    def boot_id(self) -> str | None:
        """Of the kernel that runs."""
        return _text(self.proc / "sys" / "kernel" / "random" / "boot_id")

    def flush(self) -> None:
        """Sync all file systems: the kernel writes what is dirty up to 30 s later."""
        os.sync()

    def read(self, board: Board, overlay: Overlay) -> Surroundings:
        """What is so now.

        Raises:
            DeviceError: the device does not answer.
        """
        overlay_id, build_id = read_identity(board, overlay)
        die_c, supply_v = self._monitor()
        policies = sorted((self.sys / "devices/system/cpu/cpufreq").glob("policy*"))
        governors = {text for p in policies if (text := _text(p / "scaling_governor"))}
        frequencies = [hz for p in policies if (hz := _number(p / "scaling_cur_freq"))]
        monotonic_ns, wall_ns = read_clocks(board)
        return Surroundings(
            monotonic_ns=monotonic_ns,
            wall_ns=wall_ns,
            boot_id=self.boot_id(),
            clock_hz=board.clock_hz(),
            overlay_id=overlay_id,
            build_id=build_id,
            die_c=die_c,
            supply_v=supply_v,
            governor=", ".join(sorted(governors)) or None,
            cpu_hz=min(frequencies) * 1e3 if frequencies else None,
            cpu_total_s=self._cpu_total_s(),
            cpu_own_s=self._cpu_own_s(),
            cpu_sampler_s=sampler_cpu_s(self.proc),
            disk_written_bytes=self._disk_written_bytes(),
            throttled=self._alarms(),
        )

    def _monitor(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        if self.ams is None:
            return {}, {}
        try:
            return self.ams.temperatures_c(), self.ams.voltages_v()
        except RailError:  # told by their absence: a check asks for them
            return {}, {}

    def _cpu_total_s(self) -> float | None:
        """Without the time spent idle and waiting for I/O; guests are in user and nice already."""
        words = (_text(self.proc / "stat") or "").partition("\n")[0].split()
        if len(words) < 5 or words[0] != "cpu":
            return None
        ticks = [int(word) for word in words[1:9]]
        return (sum(ticks) - sum(ticks[3:5])) / os.sysconf("SC_CLK_TCK")

    def _cpu_own_s(self) -> float | None:
        return _stat_cpu_s(self.proc / "self" / "stat")

    def _disk_written_bytes(self) -> int | None:
        """Of whole devices that are hardware; partitions and mappings count the same bytes."""
        text = _text(self.proc / "diskstats")
        if text is None:
            return None
        rows = [line.split() for line in text.splitlines()]
        written = [
            int(row[9]) * SECTOR_BYTES
            for row in rows
            if len(row) > 9 and (self.sys / "block" / row[2] / "device").exists()
        ]
        return sum(written) if written else None

    def _alarms(self) -> str:
        """Alarm attributes of hwmon chips that are set."""
        found = []
        for path in sorted((self.sys / "class/hwmon").glob("hwmon*/*_alarm")):
            if _number(path):
                found.append(f"{_text(path.parent / 'name') or path.parent.name} {path.name}")
        return ", ".join(found)


EMULATED_BOOT_ID = "emulated"
EMULATED_EPOCH_NS = 1_767_225_600_000_000_000  # 2026-01-01, so that wall times look like such


@dataclass(frozen=True)
class EmulatedSurroundings:
    """A quiet machine at rest on the emulated board's clock: a model, nothing of it measured.

    Attributes:
        rails: emulated; the die temperature and every fault are theirs.
    """

    rails: RailSource

    def boot_id(self) -> str | None:
        """Always the same."""
        return EMULATED_BOOT_ID

    def flush(self) -> None:
        """Nothing: an emulated board has no disk."""

    def read(self, board: Board, overlay: Overlay) -> Surroundings:
        """What is so now.

        Raises:
            DeviceError: the device does not answer.
        """
        now_ns = board.clock.now_ns()
        overlay_id, build_id = read_identity(board, overlay)
        rails = self.rails
        state = Surroundings(
            monotonic_ns=now_ns,
            wall_ns=EMULATED_EPOCH_NS + now_ns,
            boot_id=self.boot_id(),
            clock_hz=board.clock_hz(),
            overlay_id=overlay_id,
            build_id=build_id,
            die_c=rails.die_c() if isinstance(rails, EmulatedRails) else {},
            supply_v={"VCCINT": 0.85, "VCCBRAM": 0.85, "VCCAUX": 1.8},
            governor="userspace",
            cpu_hz=1.2e9,
            cpu_total_s=now_ns * 1e-9 * 0.01,
            cpu_own_s=now_ns * 1e-9 * 0.01,
            cpu_sampler_s=None,
            disk_written_bytes=0,
        )
        return spoil_state(state, rails)


def read_identity(board: Board, overlay: Overlay) -> tuple[int, int]:
    """The accelerator's registers ID and BUILD."""
    registers = overlay.registers
    overlay_id, build_id = (
        board.read_register(registers.register(name).offset) for name in ("ID", "BUILD")
    )
    return overlay_id, build_id


def read_clocks(board: Board) -> tuple[int, int]:
    """Monotonic and wall clock as at one moment: the closest of three pairs.

    The wall clock is read between two readings of the other; its moment is their middle.
    """
    pairs = []
    for _ in range(3):
        begin = board.clock.now_ns()
        wall = time.time_ns()
        end = board.clock.now_ns()
        pairs.append((end - begin, (begin + end) // 2, wall))
    _, monotonic_ns, wall_ns = min(pairs)
    return monotonic_ns, wall_ns


def sampler_cpu_s(proc: Path = Path("/proc")) -> float | None:
    """Processor time of the thread that samples, since it began; None where there is none."""
    for thread in threading.enumerate():
        if thread.name == PERIODIC_THREAD and thread.native_id is not None:
            return _stat_cpu_s(proc / "self" / "task" / str(thread.native_id) / "stat")
    return None


def _stat_cpu_s(path: Path) -> float | None:
    """User and system time of a stat file; the name before may hold blanks and brackets."""
    fields = (_text(path) or "").rpartition(")")[2].split()
    if len(fields) < 13:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None
