"""The models below the board interface: memory, DMA and accelerator, driven by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bacmac.host.compile.compiler import compile_model
from bacmac.host.device import dma_registers as dma
from bacmac.host.device.clock import VirtualClock
from bacmac.host.device.dma import AxiDma
from bacmac.host.device.emulated import EmulatedBoard
from bacmac.host.device.memory import STALE, Memory
from bacmac.host.device.named_registers import NamedRegisters
from bacmac.host.device.registry import open_board
from bacmac.host.errors import DeviceError
from bacmac.overlays.registry import load_overlay

OVERLAY = load_overlay("bac-pot4")


class Loopback:
    """Gives back each packet; takes 1 us a packet."""

    def __init__(self, clock):
        self.clock, self.packets = clock, []

    def offer(self, packet):
        self.packets.append(packet)
        return self.clock.now_ns() + 1000

    def collect(self, posted_ns):
        return (self.packets.pop(0), self.clock.now_ns() + 1000) if self.packets else None

    def cancel(self):
        self.packets.clear()


class Rig:
    """An AXI DMA between memory and a loopback."""

    def __init__(self, max_transfer_bytes=0xFF):
        self.clock, self.memory = VirtualClock(), Memory(1 << 20)
        self.dma = AxiDma(self.memory, Loopback(self.clock), self.clock, max_transfer_bytes)

    def start(self, channel, address, n_bytes, *, run=True):
        if run:
            self.dma.write(channel + dma.CONTROL, dma.RUN)
        self.dma.write(channel + dma.ADDRESS_LOW, address & 0xFFFF_FFFF)
        self.dma.write(channel + dma.ADDRESS_HIGH, address >> 32)
        self.dma.write(channel + dma.LENGTH, n_bytes)

    def status(self, channel):
        return self.dma.read(channel + dma.STATUS)


def test_a_transfer_there_and_back():
    rig = Rig()
    source, target = rig.memory.allocate(64), rig.memory.allocate(128)
    source.array[:] = np.arange(64)
    source.flush()

    rig.start(dma.RECEIVE, target.device_address, 128)
    rig.start(dma.SEND, source.device_address, 64)
    before = rig.status(dma.SEND), rig.status(dma.RECEIVE)
    rig.clock.sleep_ns(2000)
    after = rig.status(dma.SEND), rig.status(dma.RECEIVE)
    target.invalidate()

    assert before == (0, 0), "running: neither halted nor idle"
    assert after == (dma.IDLE | dma.DONE_INTERRUPT,) * 2
    assert rig.dma.read(dma.RECEIVE + dma.LENGTH) == 64, "the length that came"
    assert target.array[:64].tolist() == list(range(64))
    assert set(target.array[64:]) == {STALE}


def test_done_is_cleared_by_writing_one():
    rig = Rig()
    source = rig.memory.allocate(16)
    rig.start(dma.SEND, source.device_address, 16)
    rig.clock.sleep_ns(1000)

    rig.dma.write(dma.SEND + dma.STATUS, dma.DONE_INTERRUPT)

    assert rig.status(dma.SEND) == dma.IDLE


def test_a_halted_channel_does_not_start():
    rig = Rig()
    source = rig.memory.allocate(16)

    rig.start(dma.SEND, source.device_address, 16, run=False)
    rig.clock.sleep_ns(10_000)

    assert rig.status(dma.SEND) == dma.HALTED


@pytest.mark.parametrize(
    ("address_offset", "n_bytes", "error"),
    [(0, 0, dma.INTERNAL_ERROR), (-16, 16, dma.DECODE_ERROR), (8, 16, dma.DECODE_ERROR)],
)
def test_a_bad_length_or_address_halts_the_channel_until_reset(address_offset, n_bytes, error):
    rig = Rig()
    source = rig.memory.allocate(16)

    rig.start(dma.SEND, source.device_address + address_offset, n_bytes)
    failed = rig.status(dma.SEND)
    rig.start(dma.SEND, source.device_address, 16)
    still = rig.status(dma.SEND)
    rig.dma.write(dma.SEND + dma.CONTROL, dma.RESET)
    rig.start(dma.SEND, source.device_address, 16)
    rig.clock.sleep_ns(1000)

    assert failed == still == error | dma.HALTED
    assert rig.status(dma.SEND) == dma.IDLE | dma.DONE_INTERRUPT


def test_a_packet_longer_than_the_buffer_is_an_internal_error():
    rig = Rig()
    source, target = rig.memory.allocate(64), rig.memory.allocate(32)

    rig.start(dma.RECEIVE, target.device_address, 32)
    rig.start(dma.SEND, source.device_address, 64)
    rig.clock.sleep_ns(2000)

    assert rig.status(dma.RECEIVE) == dma.INTERNAL_ERROR | dma.HALTED


def test_a_freed_buffer_is_a_decode_error_and_unusable():
    rig = Rig()
    source = rig.memory.allocate(16)
    source.free()

    rig.start(dma.SEND, source.device_address, 16)

    assert rig.status(dma.SEND) == dma.DECODE_ERROR | dma.HALTED
    for use in (source.flush, source.invalidate, source.free, lambda: source.array):
        with pytest.raises(DeviceError, match="was freed"):
            use()


def test_a_length_beyond_the_register_is_refused_by_the_board():
    board = EmulatedBoard()
    board.load_overlay(OVERLAY)

    with pytest.raises(DeviceError, match="moves 1 to 67108863"):
        board.start_send(board.allocate(16), OVERLAY.manifest.max_transfer_bytes + 1)


def test_length_bits_that_the_register_lacks_are_lost():
    rig = Rig(max_transfer_bytes=0xFF)
    source = rig.memory.allocate(0x110)

    rig.start(dma.SEND, source.device_address, 0x110)

    assert rig.dma.read(dma.SEND + dma.LENGTH) == 0x10


def test_memory_is_given_back_when_it_is_freed():
    memory = Memory(8192)
    first = memory.allocate(4097)

    with pytest.raises(DeviceError, match="8192 of 8192 are taken by 1 buffers"):
        memory.allocate(1)
    first.free()
    second = memory.allocate(8192)

    assert memory.n_buffers == 1
    assert second.device_address != first.device_address


# ---- the accelerator's slave and streams


class Bench:
    """A board with an overlay, and registers by name."""

    def __init__(self):
        self.board = EmulatedBoard()
        self.board.load_overlay(OVERLAY)
        self.registers = NamedRegisters(self.board, OVERLAY.registers)

    def send(self, data):
        buffer = self.board.allocate(len(data))
        buffer.array[:] = np.frombuffer(data, np.uint8)
        buffer.flush()
        self.board.start_send(buffer, len(data))
        self.board.clock.sleep_ns(1_000_000)

    def load(self, select, data, n_bytes=None):
        self.registers.write("LOAD_BYTES", len(data) if n_bytes is None else n_bytes)
        self.registers.write("STREAM_SELECT", select)
        if data:
            self.send(data)

    def load_all(self, program, *, spoiled=None, constants=None):
        self.registers.write("N_DESCRIPTORS", len(program.descriptors))
        self.load(1, bytes(spoiled or program.program_image))
        self.load(2, program.weight_image)
        self.load(3, bytes(constants or program.constant_image))
        self.registers.write("STREAM_SELECT", 0)

    def start(self, n_images=1, packet=None):
        self.registers.write("N_IMAGES", n_images)
        self.registers.command("START", "CLEAR_COUNTERS")
        self.board.clock.sleep_ns(1000)  # what is wrong is found some cycles later
        if packet is not None:
            self.send(packet)

    @property
    def error(self):
        status = self.registers.read("STATUS")
        field = OVERLAY.registers.register("STATUS").field("ERROR_CODE")
        failed = self.registers.flag("STATUS", "ERROR")
        code = (status & field.mask) >> field.lsb
        assert failed == (code != 0)
        return code, self.registers.read("ERROR_INFO")


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture(scope="module")
def program(models):
    return compile_model(models.everything()[0], OVERLAY)


def test_registers_hold_what_the_table_says_after_configuration(bench):
    for register in OVERLAY.registers.registers:
        expected = OVERLAY.manifest.build_id if register.name == "BUILD" else register.reset
        assert bench.registers.read(register.name) == expected, register.name


def test_access_rules_are_kept(bench):
    with pytest.raises(DeviceError, match="STATUS cannot be written"):
        bench.registers.write("STATUS", 0)
    with pytest.raises(DeviceError, match="no register lies at 0x2"):
        bench.board.read_register(2)
    with pytest.raises(DeviceError, match="does not fit"):
        bench.registers.write("REPEAT", 1 << 32)
    bench.registers.write("N_IMAGES", 7)
    assert bench.registers.read("N_IMAGES") == 7


def test_a_board_without_an_overlay_has_no_registers():
    board = open_board("functional:")

    with pytest.raises(DeviceError, match="no overlay"):
        board.read_register(0)


def test_an_unknown_device_word_lists_those_there_are():
    with pytest.raises(DeviceError, match=r"'spice:'.*functional: .*reference: "):
        open_board("spice:")


def test_start_with_nothing_loaded_is_an_error_and_soft_reset_mends_it(bench, program):
    bench.registers.command("START")
    failed = bench.error
    bench.registers.command("SOFT_RESET")

    assert failed == (4, 1), "not loaded: the program"
    assert bench.error == (0, 0)
    bench.load_all(program)
    assert bench.registers.describe("STATUS").endswith(
        "IDLE=1 BUSY=0 DONE=0 ERROR=0 PROGRAM=1 WEIGHTS=1 CONSTANTS=1 ERROR_CODE=0"
    )


@pytest.mark.parametrize(
    ("layer", "offset", "value"),
    [
        (0, 0, 3),  # kind
        (3, 0, 77),
        (0, 1, 1 | 8 | 32),  # marked as the last
        (2, 4, 0),  # stride
        (1, 28, 3),  # output, no whole word
        (1, 31, 1),  # output, outside the memory
        (0, 39, 1),  # weights, outside
        (0, 40, 64),  # weights of half a group more
        (5, 44, 200),  # constants, outside
        (4, 50, 9),  # group list, outside
        (0, 56, 1),  # another height than the window gives
        (2, 60, 1),  # a shorter list
    ],
)
def test_a_bad_descriptor_is_named(bench, program, layer, offset, value):
    spoiled = bytearray(program.program_image)
    spoiled[64 * layer + offset] = value
    bench.load_all(program, spoiled=spoiled)

    bench.start(packet=bytes(program.input.n_bytes))

    assert bench.error == (1, layer)


@pytest.mark.parametrize("change", [1 << 31, 1 << 30, 1 << 29, 1 << 28, 1 << 20, 1])
def test_a_bad_group_list_is_the_descriptors_error(bench, program, change):
    spoiled = bytearray(program.program_image)
    at = program.descriptors[1].list_address
    entry = int.from_bytes(spoiled[at : at + 4], "little") ^ change
    spoiled[at : at + 4] = entry.to_bytes(4, "little")
    bench.load_all(program, spoiled=spoiled)

    bench.start(packet=bytes(program.input.n_bytes))

    assert bench.error == (1, 1)


def test_what_comes_after_an_error_is_swallowed_until_a_soft_reset(bench, program):
    bench.load(2, b"")
    assert bench.error == (4, 1)

    bench.send(bytes(64))
    bench.load(1, program.program_image)
    bench.registers.command("START")

    assert bench.board.send_state().idle
    assert bench.error == (4, 1), "the first one stays"
    assert not bench.registers.flag("STATUS", "PROGRAM")


def test_overlapping_buffers_are_a_bad_descriptor(bench, program):
    spoiled = bytearray(program.program_image)
    spoiled[64 + 28 : 64 + 32] = spoiled[28:32]  # layer 1 writes over its own residual
    bench.load_all(program, spoiled=spoiled)

    bench.start(packet=bytes(program.input.n_bytes))

    code, index = bench.error
    assert code == 1
    assert index == 2, "the layer that finds its residual gone"


@pytest.mark.parametrize("select", [1, 2, 3])
def test_a_load_is_one_packet_of_as_many_bytes_as_announced(bench, program, select):
    if select > 1:
        bench.registers.write("N_DESCRIPTORS", 1)
        bench.load(1, program.program_image)
    found = []
    for n_bytes, announced in ((128, 64), (64, 128), (120, 128), (64, 24), (64, 1 << 24)):
        bench.load(select, bytes(n_bytes), announced)
        found.append(bench.error)
        flags = bench.registers.read("STATUS") >> 4 & 7
        assert flags == (1 if select > 1 else 0)
        bench.registers.command("SOFT_RESET")
        bench.board.reset_dma()
        if select > 1:
            bench.load(1, program.program_image)

    assert found == [
        (2, 64),  # goes on after the last byte announced
        (3, 64),  # ends before it
        (5, 120),  # part of a beat
        (5, 24),  # announced: no whole beats
        (2, 1 << 24),  # announced: more than the memory holds
    ]


def test_nothing_is_loaded_by_zero_bytes_at_once(bench, program):
    bench.load(1, program.program_image)

    bench.load(2, b"")

    assert bench.registers.flag("STATUS", "WEIGHTS")
    assert bench.registers.flag("STATUS", "IDLE")


def test_a_new_program_forgets_weights_and_constants(bench, program):
    bench.load_all(program)
    before = bench.registers.read("STATUS") >> 4 & 7

    bench.load(1, program.program_image)

    assert before == 7
    assert bench.registers.read("STATUS") >> 4 & 7 == 1


@pytest.mark.parametrize(
    "name", ["STREAM_SELECT", "LOAD_BYTES", "N_IMAGES", "REPEAT", "N_DESCRIPTORS", "CTRL"]
)
@pytest.mark.parametrize("what", ["load", "batch"])
def test_registers_that_matter_are_guarded_while_something_runs(bench, program, name, what):
    if what == "load":
        bench.registers.write("LOAD_BYTES", 64)
        bench.registers.write("STREAM_SELECT", 1)
    else:
        bench.load_all(program)
        bench.start()
    busy = bench.registers.flag("STATUS", "BUSY")
    register = OVERLAY.registers.register(name)
    value = register.field("START").mask if name == "CTRL" else 1

    bench.registers.write(name, value)

    assert busy
    assert bench.error == (6, register.offset)


@pytest.mark.parametrize("name", ["N_IMAGES", "REPEAT", "N_DESCRIPTORS"])
def test_a_batch_of_nothing_is_an_underrun(bench, program, name):
    bench.load_all(program)
    bench.registers.write("N_IMAGES", 1)
    bench.registers.write(name, 0)

    bench.registers.command("START")

    assert bench.error == (3, 0)


def test_more_descriptors_than_can_be_are_a_bad_descriptor(bench, program):
    bench.load_all(program)
    bench.registers.write("N_DESCRIPTORS", 257)

    bench.start()

    assert bench.error == (1, 256)


def test_weights_before_the_program_are_an_error(bench, program):
    bench.load(2, program.weight_image)

    assert bench.error == (4, 1)


def test_too_many_images_for_the_chip_overrun(bench, program):
    bench.load_all(program)
    bench.start(program.plan.max_images + 1)

    code, held_bytes = bench.error
    assert code == 2
    assert held_bytes > OVERLAY.manifest.buffers.activation_bytes


def test_images_are_one_packet_of_as_many_bytes_as_announced(bench, program):
    size, found = program.input.n_bytes, []
    for n_bytes in (2 * size, size - 16, size - 1):
        bench.load_all(program)
        bench.start(packet=bytes(n_bytes))
        found.append(bench.error)
        bench.registers.command("SOFT_RESET")

    assert found == [(2, size), (3, size - 16), (5, size - 1)]


def test_images_before_start_wait(bench, program):
    bench.load_all(program)
    output = bench.board.allocate(program.output.n_bytes)
    bench.board.start_receive(output, program.output.n_bytes)
    bench.registers.write("N_IMAGES", 1)
    bench.send(bytes(program.input.n_bytes))
    waiting = bench.board.send_state()

    bench.registers.command("START")
    bench.board.send_state()
    bench.board.clock.sleep_ns(1_000_000)

    assert not waiting.idle
    assert waiting.error == ""
    assert bench.board.send_state().idle
    assert bench.board.receive_state().idle
    assert bench.registers.flag("STATUS", "DONE")


def test_waits_for_the_host_are_counted_apart(bench, program):
    bench.load_all(program)
    clock, hz = bench.board.clock, OVERLAY.manifest.clock_hz
    bench.registers.write("N_IMAGES", 1)
    bench.registers.command("START", "CLEAR_COUNTERS")
    clock.sleep_ns(80_000)
    bench.send(bytes(program.input.n_bytes))  # and a wait of 1 ms before the receiver is there
    output = bench.board.allocate(program.output.n_bytes)
    bench.board.receive_state()
    busy = bench.registers.flag("STATUS", "BUSY")
    bench.board.start_receive(output, program.output.n_bytes)
    clock.sleep_ns(100_000)

    stalls = [bench.registers.counter(f"STALL_{way}_CYCLES") for way in ("IN", "OUT")]
    work = program.batch_work(1)
    assert busy
    assert bench.registers.flag("STATUS", "DONE")
    assert stalls[0] == pytest.approx(80e-6 * hz, abs=2)
    assert stalls[1] > 0
    assert bench.registers.counter("CYCLES") == work.cycles + sum(stalls)
    assert bench.registers.counter("BUSY_CYCLES") == work.busy_cycles


def test_a_high_word_is_latched_by_its_low_word(bench, program):
    bench.load_all(program)
    accelerator = bench.board._hardware.accelerator._slave
    accelerator._counters["CYCLES"] = (5 << 32) | 9
    assert bench.registers.read("CYCLES_LO") == 9
    accelerator._counters["CYCLES"] = 6 << 32

    assert bench.registers.read("CYCLES_HI") == 5


def test_counters_are_cleared_by_command(bench, program):
    bench.board._hardware.accelerator._slave._counters["IMAGES"] = 12
    assert bench.registers.counter("IMAGES") == 12

    bench.registers.command("CLEAR_COUNTERS")

    assert bench.registers.counter("IMAGES") == 0


def test_constants_that_could_overflow_are_refused_before_they_run(bench, program):
    spoiled = bytearray(program.constant_image)
    spoiled[0:4] = (2**31 - 1).to_bytes(4, "little")  # the first bias
    bench.load_all(program, constants=spoiled)

    bench.start(packet=bytes(program.input.n_bytes))

    assert bench.error[0] == 1


def test_a_layer_that_does_not_exist_counts_nothing(bench, program):
    bench.load_all(program)
    output = bench.board.allocate(program.output.n_bytes)
    bench.board.start_receive(output, program.output.n_bytes)
    bench.start(packet=bytes(program.input.n_bytes))
    assert bench.registers.counter("LAYER_CYCLES") == program.layers[0].work.cycles

    bench.registers.write("LAYER_SELECT", len(program.layers))

    assert bench.registers.counter("LAYER_CYCLES") == 0
