"""What a host may do wrong: the RTL reports what the emulator reports, and then works again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.arith.reference import run_reference
from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.driver import Driver
from bacmac.host.device.faults import Faults
from bacmac.host.device.named_registers import NamedRegisters
from bacmac.host.device.registry import open_board
from bacmac.host.device.rtl.board import RtlBoard
from bacmac.host.errors import DeviceError, DeviceTimeoutError
from bacmac.host.model.inputs import input_codes

IMAGES, PROGRAM, WEIGHTS, CONSTANTS = range(4)
LONGEST_NS = 20_000_000
"""A few million cycles: longer than any layer that these programs can describe takes."""


class Host:
    """A host with no manners: registers and packets, nothing checked."""

    def __init__(self, word, overlay, program):
        self.board, self.overlay, self.program = open_board(word), overlay, program
        self.board.load_overlay(overlay)
        self.registers = NamedRegisters(self.board, overlay.registers)
        images = program.program_image, program.weight_image, program.constant_image
        self.images = dict(zip((PROGRAM, WEIGHTS, CONSTANTS), images, strict=True))

    def load(self, kind, data=None, announced=None):
        data = self.images[kind] if data is None else data
        self.registers.write("LOAD_BYTES", len(data) if announced is None else announced)
        self.registers.write("STREAM_SELECT", kind)
        self.send(data)

    def load_all(self):
        self.registers.write("N_DESCRIPTORS", len(self.program.descriptors))
        for kind in self.images:
            self.load(kind)

    def start(self, n_images=1, passes=1):
        self.registers.write("STREAM_SELECT", IMAGES)
        self.registers.write("N_IMAGES", n_images)
        self.registers.write("REPEAT", passes)
        self.registers.command("START", "CLEAR_COUNTERS")

    def send(self, data):
        if not data:
            return
        buffer = self.board.allocate(len(data))
        buffer.array[:] = np.frombuffer(data, np.uint8)
        buffer.flush()
        self.board.start_send(buffer, len(data))
        self.wait(lambda: self.board.send_state().idle)

    def wait(self, done, longest_ns=1_000_000):
        end_ns = self.board.clock.now_ns() + longest_ns
        while not done() and self.board.clock.now_ns() < end_ns:
            self.board.clock.sleep_ns(20_000)

    def error(self):
        """(code, info), once it is there."""
        self.wait(lambda: not self.registers.flag("STATUS", "BUSY"))
        status = self.registers.read("STATUS")
        return status >> 8 & 0xFF, self.registers.read("ERROR_INFO")

    def run(self, codes):
        """A batch as it should be; its outputs, or None where it does not end."""
        n_images, program = len(codes), self.program
        rows = np.empty((n_images, program.input.n_bytes), np.uint8)
        program.input.pack(codes, rows)
        buffer = self.board.allocate(n_images * program.output.n_bytes)
        self.board.start_receive(buffer, len(buffer.array))
        self.start(n_images)
        self.send(rows.tobytes())
        self.wait(lambda: self.board.receive_state().idle, LONGEST_NS)
        if not self.board.receive_state().idle or not self.registers.flag("STATUS", "DONE"):
            return None
        buffer.invalidate()
        return program.output.unpack(buffer.array.reshape(n_images, -1))

    def reset(self):
        self.board.reset_dma()
        self.registers.command("SOFT_RESET")


@pytest.fixture(scope="module")
def case(rtl, models):
    """An overlay, a program for it, codes, and what they should give."""
    overlay = rtl.small_overlay("bac-pot4", 8, 8, 16)
    model, images = models.everything(3)
    codes = input_codes(images[:2], model.normalization, model.input_format)
    return overlay, compile_model(model, overlay), codes, run_reference(model.network, codes)


def nothing_loaded(host):
    host.start()


def no_weights(host):
    host.registers.write("N_DESCRIPTORS", 1)
    host.load(PROGRAM)
    host.start()


def no_program(host):
    host.load(WEIGHTS)


def no_images(host):
    host.load_all()
    host.start(0)


def no_passes(host):
    host.load_all()
    host.start(1, 0)


def too_many_images(host):
    host.load_all()
    host.start(100_000)


def too_many_descriptors(host):
    host.load_all()
    host.registers.write("N_DESCRIPTORS", 1000)
    host.start()


def load_of_part_of_a_beat(host):
    host.load(PROGRAM, host.images[PROGRAM], announced=100)


def load_beyond_the_memory(host):
    host.load(PROGRAM, host.images[PROGRAM], announced=1 << 20)


def load_that_ends_early(host):
    host.load(PROGRAM, host.images[PROGRAM][:-8], announced=len(host.images[PROGRAM]))


def load_that_goes_on(host):
    host.load(PROGRAM, host.images[PROGRAM] + bytes(24), announced=len(host.images[PROGRAM]))


def beat_with_bytes_missing(host):
    host.load(PROGRAM, host.images[PROGRAM][:-3], announced=len(host.images[PROGRAM]))


def images_that_end_early(host):
    host.load_all()
    host.start(2)
    host.send(bytes(host.program.input.n_bytes))


def images_that_go_on(host):
    host.load_all()
    host.start(1)
    host.send(bytes(2 * host.program.input.n_bytes))


def image_with_bytes_missing(host):
    host.load_all()
    host.start(1)
    host.send(bytes(host.program.input.n_bytes - 5))


def second_start(host):
    host.load_all()
    host.start()
    host.registers.command("START")


def another_load_while_one_runs(host):
    host.registers.write("LOAD_BYTES", 64)
    host.registers.write("STREAM_SELECT", PROGRAM)
    host.registers.write("STREAM_SELECT", PROGRAM)


def number_of_images_while_a_batch_runs(host):
    host.load_all()
    host.start()
    host.registers.write("N_IMAGES", 3)


def program_of_zeros(host):
    host.registers.write("N_DESCRIPTORS", 1)
    host.load(PROGRAM, bytes(64))
    host.load(WEIGHTS, b"")
    host.load(CONSTANTS, b"")
    host.start()


FAULTS = {
    nothing_loaded: 4,
    no_weights: 4,
    no_program: 4,
    no_images: 3,
    no_passes: 3,
    too_many_images: 2,
    too_many_descriptors: 1,
    load_of_part_of_a_beat: 5,
    load_beyond_the_memory: 2,
    load_that_ends_early: 3,
    load_that_goes_on: 2,
    beat_with_bytes_missing: 5,
    images_that_end_early: 3,
    images_that_go_on: 2,
    image_with_bytes_missing: 5,
    second_start: 6,
    another_load_while_one_runs: 6,
    number_of_images_while_a_batch_runs: 6,
    program_of_zeros: 1,
}
"""What is done, and the ERROR_CODE that it gives (docs/accelerator.md)."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_reported_as_the_emulator_reports_it_and_the_next_run_is_right(case, fault):
    overlay, program, codes, expected = case
    errors = {}
    for word in ("rtl:idle=0.2,stall=0.2", "functional:"):
        host = Host(word, overlay, program)
        fault(host)
        errors[word] = host.error()
        host.reset()
        assert host.error() == (0, 0)
        host.load_all()

        assert np.array_equal(host.run(codes), expected), word
        host.board.close()

    assert len(set(errors.values())) == 1, errors
    assert errors["functional:"][0] == FAULTS[fault]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_program_never_hangs_and_the_next_run_is_right(case, data):
    overlay, program, codes, expected = case
    damaged = bytearray(program.program_image)
    n_bytes = 64 * len(program.descriptors) if data.draw(st.booleans()) else len(damaged)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, n_bytes - 1))] = data.draw(st.integers(0, 255))
    found = {}
    for word in ("functional:", "rtl:"):
        host = Host(word, overlay, program)
        host.images[PROGRAM] = bytes(damaged)
        host.load_all()
        host.run(codes)
        found[word] = host.error()
        busy = host.registers.flag("STATUS", "BUSY")
        host.reset()
        host.images[PROGRAM] = program.program_image
        host.load_all()

        assert not busy, f"{word} still runs"
        assert np.array_equal(host.run(codes), expected), word
        host.board.close()

    # the emulator refuses more: tensors that overlap, accumulators that may overflow
    if found["rtl:"] != found["functional:"]:
        assert found["functional:"][0] == 1
        assert found["rtl:"][0] in (0, 1, 2)


@settings(max_examples=40, deadline=None)
@given(cycles=st.integers(0, 12_000), resets=st.integers(1, 2))
def test_a_reset_in_the_middle_of_anything_forgets_it(case, cycles, resets):
    overlay, program, codes, expected = case
    host = Host("rtl:idle=0.1,stall=0.5,seed=3", overlay, program)
    rows = np.zeros((2, program.input.n_bytes), np.uint8)
    for _ in range(resets):
        host.load_all()
        output = host.board.allocate(2 * program.output.n_bytes)
        host.board.start_receive(output, len(output.array))
        host.start(2)
        image = host.board.allocate(rows.size)
        host.board.start_send(image, rows.size)
        host.board.clock.sleep_ns(round(cycles * 1e9 / overlay.manifest.clock_hz))
        host.reset()
        assert host.registers.read("STATUS") == overlay.registers.register("STATUS").reset
    host.load_all()

    assert np.array_equal(host.run(codes), expected)
    host.board.close()


def test_a_bad_descriptor_is_a_clear_error_of_the_driver(case):
    _, program, codes, expected = case
    descriptors = list(program.descriptors)
    descriptors[1] = dataclasses.replace(descriptors[1], stride_h=0)
    board = open_board("rtl:")
    damaged = dataclasses.replace(program, descriptors=tuple(descriptors))
    driver = Driver(board, damaged, 2)

    driver.open()
    with pytest.raises(DeviceError, match=r"ERROR_CODE=1 \(bad descriptor\), ERROR_INFO 1"):
        driver.repeat(codes, 1)
    driver.close()
    driver = Driver(board, program, 2)
    driver.open()
    assert np.array_equal(driver.repeat(codes, 1).outputs, expected)
    driver.close()
    board.close()


def test_images_that_never_come_are_a_timeout_and_cost_no_simulation(case):
    _, program, codes, expected = case
    board = RtlBoard(faults=Faults(drop_send=3))  # after program, weights, constants
    driver = Driver(board, program, 2)

    driver.open()
    with pytest.raises(DeviceTimeoutError, match="BUSY=1"):
        driver.repeat(codes, 1)
    simulated = board._hardware._simulation._simulator.state.cycle
    assert np.array_equal(driver.repeat(codes, 1).outputs, expected)
    driver.close()
    board.close()

    assert board.clock.now_ns() > 250_000_000
    assert simulated < 1_000_000, "0.25 s are 47 million cycles"


@pytest.mark.parametrize("word", ["rtl:idle=1", "rtl:stall=x", "rtl:fast", "rtl:idle=-0.1"])
def test_an_option_that_makes_no_sense_is_named(word):
    with pytest.raises(DeviceError, match=word.split("=")[0]):
        open_board(word)
