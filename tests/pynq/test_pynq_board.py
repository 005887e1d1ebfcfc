"""The code that meets the board: order of loading, stale metadata, errors that say what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pynq
import pytest

from bacmac.host.device.hardware import FunctionalHardware
from bacmac.host.device.pynq.board import PynqBoard
from bacmac.host.device.pynq.emulated import EmulatedDevice, EmulatedPynqBoard
from bacmac.host.device.pynq.preconditions import Machine
from bacmac.host.device.registry import open_board
from bacmac.host.errors import DeviceError, DeviceMemoryError, MismatchError
from bacmac.host.runtime.session import Session
from bacmac.overlays.hwh import make_hwh
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")
MANIFEST = OVERLAY.manifest


@pytest.fixture
def board():
    board = EmulatedPynqBoard("pynq:emulated", FunctionalHardware())
    yield board
    board.close()


@pytest.fixture
def accesses(board, monkeypatch):
    """Addresses of the programmable logic that were read or written."""
    seen = []
    for name in ("read_registers", "write_registers"):
        original = getattr(EmulatedDevice, name)

        def spy(self, address, what, original=original):
            if 0xA000_0000 <= address < 0xB000_0000:
                seen.append(address)
            return original(self, address, what)

        monkeypatch.setattr(EmulatedDevice, name, spy)
    return seen


def with_hand_off(folder: Path, text: str):
    """The overlay, in a folder where its hand-off says something else."""
    (folder / MANIFEST.files.hwh).write_text(text)
    return replace(OVERLAY, folder=folder)


def hand_off(**changes) -> str:
    return make_hwh(replace(OVERLAY, manifest=replace(MANIFEST, **changes))).decode()


@pytest.mark.parametrize(
    ("changes", "field", "found"),
    [
        ({"accelerator_base": 0xA0020000}, "accelerator", "at 0xa0020000"),
        ({"dma_base": 0xA0030000}, "DMA", "at 0xa0030000"),
        ({"beat_bytes": 8}, "TDATA_WIDTH", "64; expected 128"),
        ({"max_transfer_bytes": 0x3FFF}, "C_SG_LENGTH_WIDTH", "14; expected 26"),
    ],
)
def test_metadata_of_another_design_are_refused_before_any_register_is_touched(
    board, accesses, tmp_path, changes, field, found
):
    overlay = with_hand_off(tmp_path, hand_off(**changes))

    with pytest.raises(MismatchError, match=f"{field}.*{found}.*nothing was loaded"):
        board.load_overlay(overlay)

    assert accesses == []
    with pytest.raises(DeviceError, match="no overlay loaded"):
        board.read_register(0)


@pytest.mark.parametrize(
    "text",
    ["", "<a/>", "not xml", "<EDKSYSTEM><MODULES/></EDKSYSTEM>", "<EDKSYSTEM><MODULES><MODULE/>"],
)
def test_a_hand_off_that_pynq_cannot_read_is_an_error_that_names_it(board, tmp_path, text):
    overlay = with_hand_off(tmp_path, text)

    with pytest.raises((DeviceError, MismatchError), match=r"bac-pot4\.hwh"):
        board.load_overlay(overlay)


def test_metadata_are_reset_before_the_overlay_is_made(board, monkeypatch):
    order = []
    reset, overlay_class = pynq.PL.reset, pynq.Overlay
    monkeypatch.setattr(type(pynq.PL), "reset", lambda self: order.append("reset") or reset)

    def made(*arguments, **options):
        order.append(f"overlay download={options['download']}")
        return overlay_class(*arguments, **options)

    monkeypatch.setattr(pynq, "Overlay", made)
    board.load_overlay(OVERLAY)

    assert order == ["reset", "overlay download=False"]


def test_loading_prints_nothing_to_standard_output_and_leaves_no_file(
    board, monkeypatch, tmp_path, capsys
):
    download = EmulatedDevice.download

    def noisy(self, bitstream, parser=None):
        sys.stdout.write("Error loading xclbin\n")
        Path("loaded.xclbin").write_bytes(b"")
        download(self, bitstream, parser)

    monkeypatch.setattr(EmulatedDevice, "download", noisy)
    monkeypatch.chdir(tmp_path)
    board.load_overlay(OVERLAY)

    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path


def test_an_overlay_without_a_bitstream_says_how_to_build_one():
    device = EmulatedDevice(FunctionalHardware())
    board = PynqBoard("pynq:", pynq, device, FunctionalHardware().clock)

    with pytest.raises(DeviceError, match=r"no bac-pot4\.bit in .*bacmac overlay build bac-pot4"):
        board.load_overlay(OVERLAY)


def test_a_hand_off_for_emulation_is_not_loaded_beside_a_bitstream(tmp_path):
    overlay = with_hand_off(tmp_path, hand_off())
    (tmp_path / MANIFEST.files.bitstream).write_bytes(b"")
    device = EmulatedDevice(FunctionalHardware())
    board = PynqBoard("pynq:", pynq, device, FunctionalHardware().clock)

    with pytest.raises(DeviceError, match=r"bac-pot4\.hwh is made for emulation.*same build"):
        board.load_overlay(overlay)


def test_an_overlay_for_another_board_is_refused(tmp_path):
    (tmp_path / "model").write_bytes(b"ZynqMP ZCU102 Rev1.0\0")
    machine = Machine(model=tmp_path / "model")
    board = EmulatedPynqBoard("pynq:emulated", FunctionalHardware(), machine=machine)

    with pytest.raises(MismatchError, match=r"board: found ZCU104; .*ZynqMP ZCU102"):
        board.load_overlay(OVERLAY)

    (tmp_path / "model").write_bytes(b"ZynqMP ZCU104 RevC\0")
    board.load_overlay(OVERLAY)
    board.close()


def test_memory_that_is_used_up_says_how_much_there_is_and_what_to_do(tmp_path):
    (tmp_path / "meminfo").write_text("CmaTotal:         131072 kB\nCmaFree:            4 kB\n")
    machine = Machine(meminfo=tmp_path / "meminfo", model=tmp_path / "none")
    hardware = FunctionalHardware(memory_bytes=1 << 16)
    board = EmulatedPynqBoard("pynq:emulated", hardware, machine=machine)

    with pytest.raises(DeviceMemoryError, match=r"CmaFree 4 kB.*smaller batch.*cma="):
        board.allocate(1 << 20)


def test_a_buffer_that_the_dma_cannot_reach_is_refused_and_freed(board, tmp_path):
    text = hand_off().replace('NAME="c_addr_width" VALUE="40"', 'NAME="c_addr_width" VALUE="32"')
    board.load_overlay(with_hand_off(tmp_path, text))
    board._hardware.memory._next = 0x1_0000_0000

    with pytest.raises(DeviceError, match="address bits does not reach"):
        board.allocate(4096)

    assert board.n_buffers == 0


def test_a_freed_buffer_is_not_used_again(board):
    buffer = board.allocate(64)
    buffer.free()

    for use in (lambda: buffer.array, buffer.flush, buffer.invalidate, buffer.free):
        with pytest.raises(DeviceError, match="was freed and is used again"):
            use()


def test_the_clock_is_set_to_the_manifests_and_read_back(board):
    for clock_hz in (250e6, 187.5e6, 100e6):
        board.load_overlay(replace(OVERLAY, manifest=replace(MANIFEST, clock_hz=clock_hz)))
        assert board.clock_hz() == pytest.approx(clock_hz, rel=1e-4)


def test_many_sessions_leave_no_buffer_and_no_file(models, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model, images = models.everything()
    board = open_board("pynq:emulated")

    for _ in range(5):
        with Session(board, OVERLAY, model, batch_size=4) as session:
            list(session.stream(images))
    board.close()

    assert board.n_buffers == 0
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys, time
from bacmac.host.device.registry import open_board
board = open_board(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_told_who_has_the_board_and_gets_it_when_that_one_is_killed():
    word = f"pynq:emulated,board=test{os.getpid()}"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, word], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(DeviceError, match=f"is held by process {holder.pid} of .* since"):
            open_board(word)
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=30)
        open_board(word).close()
        open_board(word).close()
    finally:
        holder.kill()
        holder.wait(timeout=30)
        holder.stdout.close()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("pynq:emulate", "there are pynq: and pynq:emulated"),
        ("pynq:emulated,acclerator=rtl", "there is no option 'acclerator'"),
        ("pynq:emulated,accelerator=hls", "accelerator: found 'hls'; expected one of"),
        ("pynq:emulated,board=../x", "board: found '../x'"),
        ("pynq:emulated,stall-send=x", "stall-send: found 'x'; expected a whole number"),
    ],
)
def test_a_word_that_is_not_understood(word, message):
    with pytest.raises(DeviceError, match=message):
        open_board(word)
