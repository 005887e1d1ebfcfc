"""PYNQ's own classes, unmodified, on the emulated device: what a notebook would use."""

from __future__ import annotations

import gc

import numpy as np
import pynq
import pytest

from bacmac.host.arith.reference import run_reference
from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.hardware import FunctionalHardware
from bacmac.host.device.protocol import LOADS
from bacmac.host.device.pynq.emulated import EmulatedDevice
from bacmac.host.errors import DeviceError
from bacmac.host.model.inputs import input_codes
from bacmac.overlays.registry import load_overlay

pytestmark = pytest.mark.filterwarnings("ignore")  # Overlay imports pynq.lib, which warns

OVERLAY = load_overlay("bac-pot4")
MANIFEST = OVERLAY.manifest


@pytest.fixture
def hardware():
    return FunctionalHardware()


@pytest.fixture
def device(hardware, tmp_path, monkeypatch):
    (tmp_path / MANIFEST.files.bitstream).write_bytes(b"")
    hwh = (OVERLAY.folder / MANIFEST.files.hwh).read_bytes()
    (tmp_path / MANIFEST.files.hwh).write_bytes(hwh)
    monkeypatch.chdir(tmp_path)
    device = EmulatedDevice(hardware)
    device.announce(tmp_path / MANIFEST.files.bitstream, OVERLAY)
    pynq.Device.active_device = device
    return device


@pytest.fixture
def design(device, tmp_path):
    return pynq.Overlay(str(tmp_path / MANIFEST.files.bitstream))


def place(design, base):
    (name,) = (name for name, ip in design.ip_dict.items() if ip.get("phys_addr") == base)
    return getattr(design, name)


def test_overlay_finds_the_accelerator_and_binds_its_own_driver_to_the_dma(design):
    accelerator, dma = place(design, MANIFEST.accelerator_base), place(design, MANIFEST.dma_base)

    assert isinstance(dma, pynq.lib.dma.DMA)
    assert int(accelerator.register_map.ID) == OVERLAY.registers.register("ID").reset
    assert accelerator.register_map.STATUS.IDLE == 1
    assert accelerator.read(OVERLAY.registers.register("BUILD").offset) == MANIFEST.build_id


def test_a_network_runs_by_pynqs_classes_alone(design, models, hardware):
    """Registers by name, allocate, and PYNQ's DMA driver with its own wait."""
    model, images = models.everything()
    program = compile_model(model, OVERLAY)
    registers = place(design, MANIFEST.accelerator_base).register_map
    dma = place(design, MANIFEST.dma_base)

    registers.N_DESCRIPTORS = len(program.descriptors)
    loads = program.program_image, program.weight_image, program.constant_image
    for select, image in enumerate(loads, 1):
        buffer = pynq.allocate(len(image), "u1")
        buffer[:] = np.frombuffer(image, np.uint8)
        buffer.flush()
        registers.LOAD_BYTES = len(image)
        registers.STREAM_SELECT = select
        dma.sendchannel.transfer(buffer)
        dma.sendchannel.wait()
        while not getattr(registers.STATUS, LOADS[select - 1].name):
            pass

    codes = input_codes(images, model.normalization, model.input_format)
    source = pynq.allocate((len(codes), program.input.n_bytes), "u1")
    target = pynq.allocate((len(codes), program.output.n_bytes), "u1")
    program.input.pack(codes, np.asarray(source))
    source.flush()
    registers.STREAM_SELECT = 0
    registers.N_IMAGES, registers.REPEAT = len(codes), 1
    dma.recvchannel.transfer(target)
    registers.CTRL = 1 << OVERLAY.registers.register("CTRL").field("START").lsb
    dma.sendchannel.transfer(source)
    dma.sendchannel.wait()
    dma.recvchannel.wait()
    target.invalidate()

    outputs = program.output.unpack(np.asarray(target))
    assert np.array_equal(outputs, run_reference(model.network, codes))
    assert hardware.activity.work, "the models did it"


def test_clocks_are_set_and_read_back_through_the_registers(design):
    pynq.Clocks.fclk0_mhz = 250.0
    faster = pynq.Clocks.fclk0_mhz
    pynq.Clocks.fclk0_mhz = 187.5

    assert faster == pytest.approx(250, rel=1e-4)
    assert pynq.Clocks.fclk0_mhz == pytest.approx(187.5, rel=1e-4)


def test_a_second_device_has_clocks_of_its_own(design):
    pynq.Clocks.fclk0_mhz = 187.5
    pynq.Device.active_device = EmulatedDevice(FunctionalHardware())

    assert pynq.Clocks.fclk0_mhz == pytest.approx(1500 / 6, rel=1e-4)


def test_host_and_device_bytes_are_distinct_until_flushed(device, hardware):
    buffer = pynq.allocate(16, "u4")
    buffer[:] = 7
    window = lambda: hardware.memory.window(buffer.device_address, 64)  # noqa: E731
    before = window().copy()
    buffer.flush()

    assert not np.array_equal(before, window())
    assert window().view("<u4").tolist() == [7] * 16


def test_a_buffer_goes_when_it_is_freed_and_when_it_is_forgotten(device, hardware):
    freed, forgotten = pynq.allocate(16, "u4"), pynq.allocate(16, "u4")
    assert hardware.memory.n_buffers == 2

    freed.freebuffer()
    assert hardware.memory.n_buffers == 1
    del freed, forgotten
    gc.collect()

    assert hardware.memory.n_buffers == 0


def test_an_address_that_nothing_answers_is_an_error(device):
    with pytest.raises(DeviceError, match=r"nothing answers at 0xa0002000"):
        pynq.MMIO(0xA000_2000, 4).read(0)


def test_memory_that_is_used_up_is_pynqs_own_error(device):
    with pytest.raises(RuntimeError, match="allocation failed"):
        pynq.allocate(1 << 30, "u1")
