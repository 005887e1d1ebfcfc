"""The `pynq:` board: the board interface over PYNQ's Overlay, MMIO, allocate and Clocks.

What PYNQ does without a deadline or without a check is not used: DMA is driven by
`bacmac.host.device.dma_registers` over an MMIO, and no register of the programmable logic is
touched before PYNQ's metadata were found to be those of the overlay. That order matters: PYNQ
serves metadata of an earlier design from a cache (Xilinx/PYNQ issues 1409 and 1652), and an access
to an address that nothing answers stops a Zynq UltraScale+ for good.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bacmac.host.device.board import Buffer, Provenance
from bacmac.host.device.clock import Clock
from bacmac.host.device.dma_board import DmaBoard
from bacmac.host.device.dma_registers import DmaChannels
from bacmac.host.device.pynq.lock import BoardLock
from bacmac.host.device.pynq.preconditions import Machine, board_model, contiguous_memory
from bacmac.host.errors import DeviceError, DeviceMemoryError, MismatchError
from bacmac.host.manifest.overlay import EMULATION, MADE_FOR, Manifest, Overlay

DMA_BYTES = 0x1000
"""Address range of the DMA's registers; the last one is at 0x58."""

_HEAD_BYTES = 4096

PYNQ_ERRORS = (
    RuntimeError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    SyntaxError,
    AssertionError,
)
"""What PYNQ raises on files that it cannot use: it has no errors of its own."""


class PynqBuffer:
    """Contiguous memory from `pynq.allocate`, cacheable, freed once and for certain."""

    def __init__(self, raw: Any) -> None:
        self._raw: Any = raw
        self._address = int(raw.device_address)

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """The host's view, uint8 (n_bytes,); not to be kept after `free`."""
        # a plain view: slices of PYNQ's own class each carry a share of its bookkeeping
        view: npt.NDArray[np.uint8] = self._held().view(np.ndarray)
        return view

    @property
    def device_address(self) -> int:
        """What the DMA is told."""
        return self._address

    def flush(self) -> None:
        """Write the cache back to memory."""
        self._held().flush()

    def invalidate(self) -> None:
        """Forget the cache, so that memory is read."""
        self._held().invalidate()

    def free(self) -> None:
        """Give it back now, whoever may still refer to PYNQ's object."""
        raw = self._held()
        self._raw = None
        raw.freebuffer()

    def _held(self) -> Any:
        if self._raw is None:
            raise DeviceError(f"the buffer at {self._address:#x} was freed and is used again")
        return self._raw


class PynqBoard(DmaBoard):
    """A board through PYNQ.

    Args:
        word: the device word.
        pynq: the package.
        device: a `pynq.Device`; it becomes PYNQ's active one.
        clock: that its windows are stamped with.
        provenance: where its numbers come from.
        lock: held until the board is closed.
        machine: where the board's name and its contiguous memory are told.
    """

    def __init__(
        self,
        word: str,
        pynq: Any,
        device: Any,
        clock: Clock,
        *,
        provenance: Provenance = "board",
        lock: BoardLock | None = None,
        machine: Machine | None = None,
    ) -> None:
        super().__init__(word)
        self._pynq, self._device = pynq, device
        self._clock, self._provenance = clock, provenance
        self._lock, self._machine = lock, machine or Machine()
        self._address_bits = 0
        self._overlay: Any = None
        self._registers: Any = None
        pynq.Device.active_device = device

    @property
    def provenance(self) -> Provenance:
        """Where its numbers come from."""
        return self._provenance

    @property
    def clock(self) -> Clock:
        """The clock that its windows are stamped with."""
        return self._clock

    def load_overlay(self, overlay: Overlay) -> None:
        """Reset the logic's metadata, compare PYNQ's with the manifest, download, set the clock.

        Raises:
            MismatchError: the overlay is for another board, or PYNQ says something else of the
                design than the manifest.
            DeviceError: there is no bitstream, or PYNQ cannot load it.
        """
        manifest = overlay.manifest
        self._unload()
        self._check_board(manifest)
        bitstream = self._files(overlay)
        hwh = overlay.folder / manifest.files.hwh
        with _quiet():
            self._pynq.PL.reset()
            with _told(f"{hwh}: PYNQ cannot read the design"):
                found = self._pynq.Overlay(str(bitstream), download=False, device=self._device)
            self._address_bits = check_design(found.ip_dict, overlay, hwh)
            with _told(f"{bitstream}: PYNQ cannot load it"):
                found.download()
                self._pynq.Clocks.fclk0_mhz = manifest.clock_hz / 1e6
        self._overlay = found  # PYNQ's drivers live as long as it does
        size_bytes = overlay.registers.size_bytes
        self._registers = self._pynq.MMIO(
            manifest.accelerator_base, size_bytes, device=self._device
        )
        dma = self._pynq.MMIO(manifest.dma_base, DMA_BYTES, device=self._device)
        limit = manifest.max_transfer_bytes
        self._channels = DmaChannels(self._word, dma.read, dma.write, self._clock, limit)

    def read_register(self, offset: int) -> int:
        """A 32-bit word of the accelerator's slave."""
        self._loaded()
        return int(self._registers.read(offset))

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit word of the accelerator's slave."""
        self._loaded()
        self._registers.write(offset, int(value))  # PYNQ refuses subclasses of int

    def allocate(self, n_bytes: int) -> Buffer:
        """Contiguous memory below the DMA's reach.

        Raises:
            DeviceMemoryError: there is none left.
            DeviceError: it lies where the DMA cannot address it.
        """
        if n_bytes < 1:
            raise DeviceError(f"a buffer of {n_bytes} bytes cannot be allocated")
        try:
            raw = self._pynq.allocate(n_bytes, "u1", target=self._device, cacheable=1)
        except (RuntimeError, MemoryError, OSError) as error:
            detail = f"{error}; {contiguous_memory(self._machine)}"
            raise DeviceMemoryError(n_bytes, detail) from error
        buffer = PynqBuffer(raw)
        if self._address_bits and buffer.device_address + n_bytes > 1 << self._address_bits:
            buffer.free()
            raise DeviceError(
                f"{self._word} a buffer lies at {buffer.device_address:#x}, where a DMA of "
                f"{self._address_bits} address bits does not reach: build the overlay with 40"
            )
        return buffer

    def clock_hz(self) -> float:
        """pl_clk0 as PYNQ computes it from the dividers and the PLL that it reads back."""
        self._loaded()
        return float(self._pynq.Clocks.fclk0_mhz) * 1e6

    def close(self) -> None:
        """Let go of overlay and board; may be called twice."""
        self._unload()
        if self._lock is not None:
            self._lock.release()

    def _unload(self) -> None:
        self._channels = self._registers = self._overlay = None

    def _check_board(self, manifest: Manifest) -> None:
        model = board_model(self._machine)
        if model and manifest.board.lower() not in model.lower():
            raise MismatchError(
                manifest.name,
                "board",
                found=manifest.board,
                expected=f"the one this is, {model}",
                hint="its part and pins are another's",
            )

    def _files(self, overlay: Overlay) -> Path:
        """The bitstream, its own hand-off beside it."""
        files, hwh = overlay.manifest.files, overlay.folder / overlay.manifest.files.hwh
        for name in (files.bitstream, files.hwh):
            if not (overlay.folder / name).is_file():
                raise DeviceError(
                    f"overlay {overlay.manifest.name} has no {name} in {overlay.folder}: build it "
                    f"by `bacmac overlay build {overlay.manifest.name}` where Vivado is, and name "
                    "the bundle's manifest with --overlay"
                )
        with hwh.open("rb") as handle:
            if f'{MADE_FOR}="{EMULATION}"'.encode() in handle.read(_HEAD_BYTES):
                raise DeviceError(
                    f"{hwh} is made for emulation and says nothing of the widths of ports that "
                    f"PYNQ sets: beside {files.bitstream} the hand-off of the same build is missing"
                )
        return overlay.folder / files.bitstream


def check_design(ip_dict: Mapping[str, Any], overlay: Overlay, hwh: Path) -> int:
    """Compare what PYNQ says of the design with the manifest, before anything is touched.

    Args:
        ip_dict: PYNQ's, name to address, range, type and parameters.
        overlay: what is to be loaded.
        hwh: where PYNQ should have it from, for errors.

    Returns:
        address bits of the DMA, 0 where the design does not say.

    Raises:
        MismatchError: accelerator or DMA are not where the manifest says, or the DMA is not one
            that the driver can drive.
    """
    manifest = overlay.manifest
    at = {int(ip["phys_addr"]): (name, ip) for name, ip in ip_dict.items() if "phys_addr" in ip}
    places = ", ".join(f"{name} at {base:#x}" for base, (name, _) in sorted(at.items())) or "none"
    for what, base, n_bytes in (
        ("accelerator", manifest.accelerator_base, overlay.registers.size_bytes),
        ("DMA", manifest.dma_base, DMA_BYTES),
    ):
        if base not in at or int(at[base][1]["addr_range"]) < n_bytes:
            raise _stale(hwh, what, places, f"one at {base:#x}, {n_bytes:#x} bytes", manifest)
    name, dma = at[manifest.dma_base]
    if not str(dma.get("type", "")).startswith("xilinx.com:ip:axi_dma:"):
        raise _stale(hwh, "DMA", f"{name} of type {dma.get('type')}", "an AXI DMA", manifest)
    parameters = {key.upper(): value for key, value in dma.get("parameters", {}).items()}
    width = 8 * manifest.beat_bytes
    for key, expected in (
        ("C_INCLUDE_SG", 0),
        ("C_INCLUDE_MM2S", 1),
        ("C_INCLUDE_S2MM", 1),
        ("C_M_AXIS_MM2S_TDATA_WIDTH", width),
        ("C_S_AXIS_S2MM_TDATA_WIDTH", width),
    ):
        found = parameters.get(key)
        if found is not None and int(found) != expected:
            raise _stale(hwh, f"{name}.{key}", str(found), str(expected), manifest)
    length_bits = parameters.get("C_SG_LENGTH_WIDTH")
    needed = manifest.max_transfer_bytes.bit_length()
    if length_bits is not None and int(length_bits) < needed:
        raise _stale(hwh, f"{name}.C_SG_LENGTH_WIDTH", str(length_bits), str(needed), manifest)
    return int(parameters.get("C_ADDR_WIDTH", 0))


def _stale(hwh: Path, field: str, found: str, expected: str, manifest: Manifest) -> MismatchError:
    return MismatchError(
        hwh,
        field,
        found=found,
        expected=f"{expected}, as the manifest of {manifest.name} says",
        hint="another design's hand-off, or one that PYNQ remembers; nothing was loaded",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """PYNQ prints to standard output and leaves a file in the folder it is called from."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        os.chdir(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            os.chdir(before)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except DeviceError:
        raise
    except PYNQ_ERRORS as error:
        raise DeviceError(f"{what}: {type(error).__name__}: {error}") from error
