"""PYNQ itself, unmodified, on an emulated Zynq UltraScale+.

`pynq.Device` is PYNQ's own seam: Overlay, MMIO, allocate, DMA, register maps and Clocks reach the
hardware through it only. This device stands on the same models of DDR, DMA and accelerator as the
emulated board, so what runs here against PYNQ 3.0 to 4.0 is what runs on a board. Not covered:
PYNQ's own EmbeddedDevice (FPGA manager, /dev/mem, XRT), caches in hardware, and time.

Sources: PYNQ `pl_server/device.py`, `mmio.py`, `buffer.py`, `ps.py` of 3.0.1, 3.1.2 and 4.0.0;
clock registers, UG1087 (CRL_APB, CRF_APB).
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pynq
import pynq.ps
from pynq.buffer import PynqBuffer
from pynq.pl_server.device import Device
from pynqmetadata.frontends import Metadata

from bacmac.host.device.activity import ActivityLog
from bacmac.host.device.hardware import Hardware
from bacmac.host.device.memory import EmulatedBuffer
from bacmac.host.device.pynq.board import DMA_BYTES, PynqBoard
from bacmac.host.device.pynq.lock import BoardLock
from bacmac.host.device.pynq.preconditions import Machine
from bacmac.host.errors import DeviceError, DeviceMemoryError
from bacmac.host.manifest.overlay import Overlay

try:
    from pynqmetadata.views.runtime import RuntimeMetadataParser  # from PYNQ 4.0 on
except ImportError:
    from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser

CRL_APB, CRF_APB, CLOCK_BYTES = 0xFF5E0000, 0xFD1A0000, 0x1000
IOPLL_CTRL, PL0_REF_CTRL = 0x20, 0xC0
CRL_RESET = {0x20: 0x15A00, 0x30: 0x15A00, **dict.fromkeys((0xC0, 0xC4, 0xC8, 0xCC), 0x01010600)}
"""IOPLL and RPLL at 1.5 GHz (feedback 90 of the crystal, halved); dividers 6 and 1."""
CRF_RESET = {0x20: 0x14200, 0x2C: 0x12D00, 0x38: 0x12D00, 0x60: 0x100}
CRYSTAL_HZ = 33.333e6
READ_NS = 250
"""A read over AXI4-Lite: on the virtual clock too, a program that only polls lets time pass."""


class _Registers(Protocol):
    def read(self, offset: int) -> int: ...

    def write(self, offset: int, value: int) -> None: ...


class _ClockRegisters:
    """A block of plain registers, some of which read other than they were written."""

    def __init__(self, reset: dict[int, int], lies: dict[int, int] | None = None) -> None:
        self._values, self._lies = dict(reset), lies or {}

    def read(self, offset: int) -> int:
        return self._lies.get(offset, self._values.get(offset, 0))

    def write(self, offset: int, value: int) -> None:
        self._values[offset] = value


def _clock_lies(clock_hz: float | None) -> dict[int, int]:
    """PLL and divider of pl_clk0 for the frequency nearest to one that is to be read back."""
    if clock_hz is None:
        return {}
    pairs = ((feedback, divider) for divider in range(1, 64) for feedback in range(1, 128))
    feedback, divider = min(
        pairs, key=lambda pair: abs(CRYSTAL_HZ * pair[0] / 2 / pair[1] - clock_hz)
    )
    return {IOPLL_CTRL: 1 << 16 | feedback << 8, PL0_REF_CTRL: 0x01010000 | divider << 8}


class EmulatedDevice(Device):  # type: ignore[misc]  # pynq has no types
    """A device that exists only where a program makes it: it is not probed for.

    Args:
        hardware: the models.
    """

    name, arch = "emulated_zynqmp", "aarch64"

    def __init__(self, hardware: Hardware) -> None:
        super().__init__("emulated")
        self.capabilities = {"REGISTER_RW": True, "MEMORY_MAPPED": False, "CALLABLE": False}
        self.bitfile_name: str | None = None
        self.timestamp: str | None = None
        self._hardware = hardware
        self._known: dict[str, Overlay] = {}
        self._clocks: tuple[tuple[int, _Registers], ...] = (
            (CRL_APB, _ClockRegisters(CRL_RESET, _clock_lies(hardware.faults.clock_hz))),
            (CRF_APB, _ClockRegisters(CRF_RESET)),
        )
        if hasattr(pynq.Clocks, "_real_instance"):  # PYNQ keeps the first device's for ever
            del pynq.Clocks._real_instance  # noqa: SLF001
        if hasattr(pynq.Clocks, "set_device"):
            pynq.Clocks.set_device(self)
        else:  # 3.0 asks the host which clocks there are
            pynq.ps.CPU_ARCH = "aarch64"

    def announce(self, bitstream: Path, overlay: Overlay) -> None:
        """Say what accelerator is in a bitstream: nothing here can read one."""
        self._known[str(bitstream)] = overlay

    # ---- what PYNQ calls

    def read_registers(self, address: int, n_bytes: int) -> bytes:
        """Words of whatever answers there."""
        slave, base = self._slave(address)
        self._hardware.clock.sleep_ns(READ_NS)
        words = (slave.read(address - base + at) for at in range(0, n_bytes, 4))
        return b"".join(struct.pack("<I", word & 0xFFFF_FFFF) for word in words)

    def write_registers(self, address: int, data: bytes) -> None:
        """Words to whatever answers there."""
        slave, base = self._slave(address)
        for index, (word,) in enumerate(struct.iter_unpack("<I", bytes(data))):
            slave.write(address - base + 4 * index, word)

    def allocate(self, shape: Any, dtype: Any = "u4", cacheable: int = 0, **_: object) -> Any:
        """A buffer whose host and device bytes are distinct."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            memory = self._hardware.memory.allocate(n_bytes)
        except DeviceMemoryError as error:
            raise RuntimeError(f"BO allocation failed: {error}") from error  # as XRT would
        buffer = PynqBuffer(
            shape,
            dtype,
            buffer=memory.array,
            device=self,
            bo=memory,
            coherent=False,
            device_address=memory.device_address,
        )
        # PYNQ's way of giving memory back to whoever lent it; without it, it unmaps pages, and
        # does so a second time when the object goes, unless it thinks that this is done
        buffer.memory, buffer.pointer, buffer.return_to = self, (memory,), self
        buffer.freed = True
        return buffer

    def return_pointer(self, pointer: tuple[EmulatedBuffer]) -> None:
        """A buffer was freed."""
        pointer[0].free()

    def flush(self, bo: EmulatedBuffer, *_: object) -> None:
        """Host to device."""
        bo.flush()

    def invalidate(self, bo: EmulatedBuffer, *_: object) -> None:
        """Device to host."""
        bo.invalidate()

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> Any:
        """The design, from the .hwh beside the bitstream, and the processor's memory."""
        hwh = Path(bitfile_name).with_suffix(".hwh")
        parser = RuntimeMetadataParser(Metadata(input=str(hwh)))
        parser.mem_dict["PSDDR"] = {
            "base_address": 0,
            "size": 1 << 31,
            "used": 1,
            "idx": 0,
            "tag": "PSDDR",
            "type": "DDR4",
            "raw_type": 2,
            "streaming": False,
        }
        parser.refresh_hierarchy_dict()
        return parser

    def get_memory(self, description: object) -> EmulatedDevice:
        """There is one memory, this device's."""
        return self

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Configure the models with what is in that bitstream."""
        name = str(bitstream.bitfile_name)
        if name not in self._known:
            raise DeviceError(f"{name}: the emulated board does not know what is in it")
        self._hardware.configure(self._known[name])
        self.post_download(bitstream, parser, self.name)

    def _slave(self, address: int) -> tuple[_Registers, int]:
        for base, clocks in self._clocks:
            if base <= address < base + CLOCK_BYTES:
                return clocks, base
        overlay = self._hardware.overlay
        if overlay is not None:
            manifest, n_bytes = overlay.manifest, overlay.registers.size_bytes
            if manifest.accelerator_base <= address < manifest.accelerator_base + n_bytes:
                return self._hardware.accelerator, manifest.accelerator_base
            if manifest.dma_base <= address < manifest.dma_base + DMA_BYTES:
                return self._hardware.dma, manifest.dma_base
        raise DeviceError(f"nothing answers at {address:#x}: a board stops here for good")


class EmulatedPynqBoard(PynqBoard):
    """`PynqBoard` on an `EmulatedDevice`.

    Args:
        word: the device word.
        hardware: the models.
        lock: held until the board is closed.
        machine: where the board's name is told; unless given, it has none.
    """

    def __init__(
        self,
        word: str,
        hardware: Hardware,
        *,
        lock: BoardLock | None = None,
        machine: Machine | None = None,
    ) -> None:
        self._hardware = hardware
        self._emulated = EmulatedDevice(hardware)
        self._folder: str | None = None
        self._remove: Callable[[], object] | None = None
        super().__init__(
            word,
            pynq,
            self._emulated,
            hardware.clock,
            provenance=hardware.provenance,
            lock=lock,
            machine=machine or Machine(model=Path("/nonexistent")),
        )

    @property
    def activity(self) -> ActivityLog:
        """What the board did and when, for emulated power."""
        return self._hardware.activity

    @property
    def n_buffers(self) -> int:
        """Buffers that are allocated and not freed."""
        return self._hardware.memory.n_buffers

    def close(self) -> None:
        """Let go of the board and of the files that stood in for bitstreams."""
        super().close()
        self._hardware.close()
        if self._remove is not None:
            self._remove()
        self._folder = self._remove = None

    def _files(self, overlay: Overlay) -> Path:
        """The overlay's own files, or its hand-off and a file that stands for the bitstream."""
        files = overlay.manifest.files
        bitstream = overlay.folder / files.bitstream
        if not bitstream.is_file():
            bitstream = self._stand_in(overlay)
        self._emulated.announce(bitstream, overlay)
        return bitstream

    def _stand_in(self, overlay: Overlay) -> Path:
        files = overlay.manifest.files
        hwh = overlay.folder / files.hwh
        if not hwh.is_file():
            name = overlay.manifest.name
            raise DeviceError(
                f"overlay {name} has no {files.hwh} in {overlay.folder}: make one by "
                f"`bacmac overlay hwh {name} -o {hwh}`"
            )
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="bacmac-emulated-")
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        bitstream = Path(self._folder) / files.bitstream
        bitstream.write_bytes(b"")
        shutil.copyfile(hwh, bitstream.with_suffix(".hwh"))
        return bitstream
