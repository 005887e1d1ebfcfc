"""The block design that build.tcl draws is the one that the manifest describes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bacmac.host.device.rtl.parameters import SOURCE_FOLDER, rtl_parameters
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.check import check_overlay
from bacmac.overlays.registry import list_overlays, load_overlay
from bacmac.overlays.vivado_bundle import collect_bundle

OVERLAYS = list_overlays()


def wide(overlay: Overlay) -> Overlay:
    """The largest array that the RTL allows: a beat of 32 bytes, twice the width of HP0."""
    manifest = overlay.manifest
    geometry = replace(manifest.geometry, inputs=32, outputs=32, group_inputs=32, group_outputs=32)
    return replace(overlay, manifest=replace(manifest, geometry=geometry, beat_bytes=32))


@pytest.fixture(
    scope="module",
    params=[*OVERLAYS, wide(OVERLAYS[0])],
    ids=lambda o: f"{o.manifest.name}-{o.manifest.beat_bytes}",
)
def built(request, run_model, tmp_path_factory):
    overlay = request.param
    return overlay, run_model(overlay, tmp_path_factory.mktemp("a build") / "vivado")


def configuration(run, cell: str) -> dict[str, str]:
    return {key: value for name, key, value in run.rows("config") if name == cell}


def test_the_flow_ends_well_and_leaves_every_file(built):
    overlay, run = built
    name = overlay.manifest.name

    assert run.status == 0, run.said
    assert {path.name for path in (run.folder / "out").iterdir()} == {
        f"{name}.bit",
        f"{name}.hwh",
        f"{name}_timing_summary.rpt",
        f"{name}_utilization.rpt",
        "build.txt",
    }


def test_the_cells_are_six_of_known_kinds(built):
    _, run = built

    assert dict(run.rows("cell")) == {
        "/ps": "xilinx.com:ip:zynq_ultra_ps_e:3.5",
        "/accelerator": "bacmac:ip:accelerator:2.0",
        "/axi_dma": "xilinx.com:ip:axi_dma:7.1",
        "/resets": "xilinx.com:ip:proc_sys_reset:5.0",
        "/control": "xilinx.com:ip:smartconnect:1.0",
        "/memory": "xilinx.com:ip:smartconnect:1.0",
    }


def test_every_parameter_of_the_accelerator_is_the_manifests(built):
    overlay, run = built
    declared = re.findall(
        r"parameter (?:\[31:0\] )?(\w+) =", (SOURCE_FOLDER / "rtl" / "bacmac.v").read_text()
    )

    given = {key: int(value, 0) for key, value in configuration(run, "/accelerator").items()}

    assert given == rtl_parameters(overlay.manifest)
    assert sorted(given) == sorted(declared)


def test_the_dma_is_what_the_driver_relies_on(built):
    overlay, run = built
    beat_bits = str(8 * overlay.manifest.beat_bytes)

    given = configuration(run, "/axi_dma")

    assert given["c_include_sg"] == "0"
    assert given["c_include_mm2s"] == given["c_include_s2mm"] == "1"
    assert given["c_include_mm2s_dre"] == given["c_include_s2mm_dre"] == "0"
    assert 2 ** int(given["c_sg_length_width"]) - 1 == overlay.manifest.max_transfer_bytes
    assert given["c_addr_width"] == "40"
    assert given["c_m_axi_mm2s_data_width"] == given["c_m_axi_s2mm_data_width"] == beat_bits
    assert given["c_m_axis_mm2s_tdata_width"] == beat_bits
    assert int(given["c_mm2s_burst_size"]) >= 16
    assert int(given["c_mm2s_burst_size"]) * overlay.manifest.beat_bytes <= 4096


def test_the_processing_system_has_one_clock_two_ports_and_no_other(built):
    overlay, run = built
    given = configuration(run, "/ps")

    ports = {key: value for key, value in given.items() if "__USE__" in key}
    assert ports == {
        "PSU__USE__M_AXI_GP0": "1",
        "PSU__USE__M_AXI_GP1": "0",
        "PSU__USE__M_AXI_GP2": "0",
        "PSU__USE__S_AXI_GP2": "1",
        "PSU__USE__IRQ0": "0",
        "PSU__USE__FABRIC__RST": "1",
    }
    assert given["PSU__MAXIGP0__DATA_WIDTH"] == "32"
    assert given["PSU__SAXIGP2__DATA_WIDTH"] == "128"
    assert [given[f"PSU__FPGA_PL{n}_ENABLE"] for n in range(4)] == ["1", "0", "0", "0"]
    control = "PSU__CRL_APB__PL0_REF_CTRL__"
    divisors = int(given[f"{control}DIVISOR0"]) * int(given[f"{control}DIVISOR1"])
    assert given[f"{control}SRCSEL"] == "IOPLL"
    assert 1.5e9 / divisors == pytest.approx(overlay.manifest.clock_hz, rel=1e-3)
    assert float(given[f"{control}FREQMHZ"]) * 1e6 == pytest.approx(1.5e9 / divisors)


def test_every_clock_is_pl_clk0_and_every_reset_is_synchronised(built):
    _, run = built
    drivers = {sink: source for source, sink in run.rows("net")}

    clocks = (
        *("/ps/maxihpm0_fpd_aclk", "/ps/saxihp0_fpd_aclk", "/resets/slowest_sync_clk"),
        *("/control/aclk", "/memory/aclk", "/accelerator/aclk"),
        *("/axi_dma/s_axi_lite_aclk", "/axi_dma/m_axi_mm2s_aclk", "/axi_dma/m_axi_s2mm_aclk"),
    )
    assert drivers == {
        **dict.fromkeys(clocks, "/ps/pl_clk0"),
        "/resets/ext_reset_in": "/ps/pl_resetn0",
        "/control/aresetn": "/resets/interconnect_aresetn",
        "/memory/aresetn": "/resets/interconnect_aresetn",
        "/accelerator/aresetn": "/resets/peripheral_aresetn",
        "/axi_dma/axi_resetn": "/resets/peripheral_aresetn",
    }


def test_streams_and_buses_run_between_the_right_ends(built):
    _, run = built

    assert {tuple(row) for row in run.rows("interface")} == {
        ("/ps/M_AXI_HPM0_FPD", "/control/S00_AXI"),
        ("/control/M00_AXI", "/accelerator/s_axi"),
        ("/control/M01_AXI", "/axi_dma/S_AXI_LITE"),
        ("/axi_dma/M_AXI_MM2S", "/memory/S00_AXI"),
        ("/axi_dma/M_AXI_S2MM", "/memory/S01_AXI"),
        ("/memory/M00_AXI", "/ps/S_AXI_HP0_FPD"),
        ("/axi_dma/M_AXIS_MM2S", "/accelerator/s_axis"),
        ("/accelerator/m_axis", "/axi_dma/S_AXIS_S2MM"),
    }


def test_addresses_are_the_manifests_and_the_dma_sees_memory_alone(built):
    overlay, run = built
    segments = {(space, slave): (base, size) for space, slave, base, size in run.rows("segment")}

    assert segments[("/ps/Data", "/accelerator/s_axi/reg0")] == (
        f"0x{overlay.manifest.accelerator_base:X}",
        f"0x{overlay.registers.size_bytes:X}",
    )
    assert segments[("/ps/Data", "/axi_dma/S_AXI_LITE/Reg")] == (
        f"0x{overlay.manifest.dma_base:X}",
        "0x1000",
    )
    for channel in ("MM2S", "S2MM"):
        space = f"/axi_dma/Data_{channel}"
        seen = sorted(slave for master, slave in segments if master == space)
        assert seen == ["/ps/SAXIGP2/HP0_DDR_HIGH", "/ps/SAXIGP2/HP0_DDR_LOW"]
        assert Counter(master for master, _ in run.rows("excluded"))[space] == 2


def test_the_flow_is_the_non_project_one_for_the_part(built):
    overlay, run = built
    part = overlay.manifest.part

    assert ["-in_memory", "-part", part] in run.calls("create_project")
    assert run.calls("synth_design") == [["-top", "bacmac_system_wrapper", "-part", part]]
    steps = [row[0] for row in run.rows("call")]
    order = ["validate_bd_design", "save_bd_design", "generate_target", "make_wrapper"]
    order += ["synth_design", "opt_design", "place_design", "phys_opt_design", "route_design"]
    order += ["report_timing_summary", "report_utilization", "write_bitstream"]
    assert [step for step in steps if step in order] == order
    assert not {"launch_runs", "wait_on_run", "open_project"} & set(steps)


def test_the_build_id_is_in_the_bitstreams_header(built):
    overlay, run = built

    assert ["design", "BITSTREAM.CONFIG.USERID", f"0x{overlay.manifest.build_id:08X}"] in run.rows(
        "property"
    )


def test_every_register_and_field_is_packaged(built):
    overlay, run = built
    packaged = {
        name: value
        for target, key, value in run.rows("property")
        if (name := target.removeprefix("register/")) != target and key == "address_offset"
    }

    assert {name: int(offset, 0) for name, offset in packaged.items()} == {
        register.name: register.offset for register in overlay.registers.registers
    }
    assert len(run.calls("ipx::add_field")) == sum(
        len(register.fields) for register in overlay.registers.registers
    )


def test_the_check_finds_nothing_wrong_with_the_bundle(built):
    overlay, run = built

    bundle = collect_bundle(run.folder.parent)

    findings = check_overlay(bundle.overlay)
    assert {f.subject for f in findings} >= {"hand-off", "bitstream", "timing", "sha256"}
    assert [f for f in findings if f.level != "ok"] == []
    assert bundle.overlay.manifest.geometry == overlay.manifest.geometry


def test_the_board_preset_is_applied_where_the_board_files_are(run_model, tmp_path):
    run = run_model(load_overlay("bac-pot4"), tmp_path / "build", boards=1)

    assert run.status == 0, run.said
    assert run.rows("preset") == [["/ps"]]
    assert "board_part xilinx.com:zcu104:part0:1.1" in _built(run.folder)


def test_without_board_files_it_is_said_and_built(run_model, tmp_path):
    run = run_model(load_overlay("bac-pot4"), tmp_path / "build", boards=0)

    assert run.rows("preset") == []
    assert "no board files of ZCU104" in run.said
    assert "board_part none" in _built(run.folder)


def test_threads_are_limited_only_when_asked(run_model, tmp_path):
    overlay = load_overlay("bac-pot4")

    assert run_model(overlay, tmp_path / "a").calls("set_param") == []
    assert run_model(overlay, tmp_path / "b", jobs=3).calls("set_param") == [
        ["general.maxThreads", "3"]
    ]


def _built(folder: Path) -> str:
    return (folder / "out" / "build.txt").read_text()
