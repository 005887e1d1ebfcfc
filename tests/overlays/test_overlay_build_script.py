"""build.tcl and its settings: what the model of Vivado would not let pass, and what is refused."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacmac.host.device.rtl.parameters import SOURCE_FOLDER
from bacmac.host.errors import OverlayError
from bacmac.host.manifest.overlay import Overlay
from bacmac.overlays.manifest_text import manifest_text
from bacmac.overlays.registry import load_overlay, parse_manifest
from bacmac.overlays.vivado_inputs import inputs_sha256, tcl_word, write_inputs

OVERLAY = load_overlay("bac-pot4")
SCRIPT = (SOURCE_FOLDER / "vivado" / "build.tcl").read_text()


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("    phys_opt_design", "    physopt_design", 'invalid command name "physopt_design"'),
        ("-in_memory", "-memory", "create_project: unknown option -memory"),
        ("CONFIG.c_sg_length_width", "CONFIG.c_sg_lenght_width", "/axi_dma has no parameter"),
        ("CONFIG.c_addr_width 40", "CONFIG.c_addr_width 32", "HP0_DDR_HIGH does not fit"),
        ("c_mm2s_burst_size $burst", "c_mm2s_burst_size 48", "c_mm2s_burst_size cannot be 48"),
        ("PSU__USE__S_AXI_GP2 1", "PSU__USE__S_AXI_GP2 0", "interface pin ps/S_AXI_HP0_FPD"),
        ("PSU__USE__M_AXI_GP1 0", "PSU__USE__M_AXI_GP1 1", "not connected: /ps/M_AXI_HPM1_FPD"),
        ("axi_dma:7.1", "axi_dma:6.0", "no IP xilinx.com:ip:axi_dma:6.0"),
        ("control/aclk memory/aclk", "control/aclk", "not connected: /memory/aclk"),
        ("axi_dma/axi_resetn", "axi_dma/aresetn", "pin axi_dma/aresetn"),
        ("accelerator/m_axis ", "accelerator/m_axi ", "interface pin accelerator/m_axi"),
        ("s_axi/reg0", "s_axi/Reg", "address segment accelerator/s_axi/Reg"),
        ("exclude_bd_addr_seg -target_address_space [", "list [", "is not mapped into"),
        ("synth_checkpoint_mode None", "synth_checkpoint_mode Global", "Global"),
        ("set_property usage register", "set_property use register", "has no property use"),
        ("XPM_CDC XPM_FIFO XPM_MEMORY", "XPM_CDC", "macros of XPM_FIFO are black boxes"),
        ("    opt_design\n", "", "design is synthesized, expected optimized"),
        ("    generate_target all $block_design\n", "", "is called bacmac_system.hwh"),
        ("set_property access $access $register", "list", "no access"),
        ("ipx::save_core $core", "", "no IP in"),
        ("set_property slave_memory_map_ref s_axi", "list", "slave_memory_map_ref"),
    ],
)
def test_a_slip_in_the_script_does_not_get_past_the_model(run_model, tmp_path, right, wrong, said):
    run = run_model(OVERLAY, tmp_path / "vivado", change=(right, wrong))

    assert run.status == 1
    assert said in run.said
    assert not (run.folder / "out" / "build.txt").exists()


def test_an_old_release_is_refused(run_model, tmp_path):
    run = run_model(OVERLAY, tmp_path / "vivado", version="2019.1")

    assert run.status == 1
    assert "Vivado 2019.1 is too old: 2020.2 or later is needed" in run.said


@pytest.mark.parametrize("version", ["2020.2", "2023.1_AR35", "2024.2.2", "2025.1"])
def test_releases_with_patches_are_taken(run_model, tmp_path, version):
    run = run_model(OVERLAY, tmp_path / "vivado", version=version)

    assert run.status == 0, run.said
    assert f"vivado {version}\n" in (run.folder / "out" / "build.txt").read_text()


def test_another_pll_than_pynqs_is_refused_before_synthesis(run_model, tmp_path):
    run = run_model(OVERLAY, tmp_path / "vivado", iopll=1000)

    assert run.status == 1
    assert "pl_clk0 is divided by 6, expected 8: the IO PLL is not at 1500 MHz" in run.said
    assert run.calls("synth_design") == []


def test_a_design_without_a_clock_constraint_is_refused(run_model, tmp_path):
    run = run_model(OVERLAY, tmp_path / "vivado", headless=1)

    assert run.status == 1
    assert "no clock constrains the design" in run.said
    assert run.calls("write_bitstream") == []


def test_an_earlier_run_leaves_nothing_behind(run_model, tmp_path):
    run = run_model(OVERLAY, tmp_path / "vivado")
    (run.folder / "work" / "stale").write_text("")

    again = run_model(OVERLAY, tmp_path / "vivado", fail="route_design")

    assert again.status == 1
    assert not (run.folder / "work" / "stale").exists()
    assert list((run.folder / "out").iterdir()) == []


def test_the_inputs_hold_all_sources_and_no_path(tmp_path):
    write_inputs(OVERLAY, tmp_path / "vivado")

    for source in (SOURCE_FOLDER / "rtl").iterdir():
        assert (tmp_path / "vivado" / "rtl" / source.name).read_bytes() == source.read_bytes()
    texts = [path.read_text() for path in (tmp_path / "vivado").glob("*.t*")]
    assert len(texts) == 3
    assert not any(str(tmp_path) in text or str(SOURCE_FOLDER) in text for text in texts)


def test_the_hash_of_the_inputs_tells_a_change_and_no_copy(tmp_path):
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    write_inputs(OVERLAY, one)
    write_inputs(OVERLAY, two, jobs=4)
    write_inputs(load_overlay("mac-uniform4"), other)

    assert inputs_sha256(one) == inputs_sha256(two) != inputs_sha256(other)
    (two / "rtl" / "bacmac.v").write_text("module bacmac; endmodule")
    assert inputs_sha256(one) != inputs_sha256(two)


def changed(**what: object) -> Overlay:
    manifest = OVERLAY.manifest
    geometry = {k: what.pop(k) for k in list(what) if hasattr(manifest.geometry, k)}
    buffers = {k: what.pop(k) for k in list(what) if hasattr(manifest.buffers, k)}
    manifest = replace(
        manifest,
        geometry=replace(manifest.geometry, **geometry),
        buffers=replace(manifest.buffers, **buffers),
        **what,
    )
    return replace(OVERLAY, manifest=manifest)


@pytest.mark.parametrize(
    ("overlay", "field", "expected"),
    [
        (changed(scheme="ternary"), "scheme", "product term"),
        (changed(clock_hz=200e6), "clock_hz", "1.875e\\+08 is the nearest below"),
        (changed(inputs=64), "inputs", "a power of two to 32"),
        (changed(inputs=24, outputs=24), "inputs", "a power of two"),
        (changed(outputs=4), "outputs", "from 8 to inputs, 16"),
        (changed(outputs=32), "outputs", "from 8 to inputs, 16"),
        (changed(beat_bytes=32), "beat_bytes", "inputs, 16"),
        (changed(activation_bytes=1 << 21), "activation_bytes", "at most 1048576"),
        (changed(max_descriptors=512), "max_descriptors", "2 to 256"),
        (
            replace(OVERLAY, registers=replace(OVERLAY.registers, size_bytes=8192)),
            "register_map",
            "bacmac_registers.svh",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_rtl_cannot_be_is_refused_by_the_manifests_key(tmp_path, overlay, field, expected):
    with pytest.raises(OverlayError, match=expected) as refused:
        write_inputs(overlay, tmp_path / "vivado")

    assert refused.value.field == field
    assert not (tmp_path / "vivado").exists()


PRINT_CODES = """
foreach word $words {
    foreach char [split $word {}] { puts -nonewline [format {%04x } [scan $char %c]] }
    puts ""
}
"""


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(st.characters(max_codepoint=0xD7FF, blacklist_characters="\0"))))
def test_any_text_is_one_word_of_tcl(texts):
    script = f"set words {{{' '.join(map(tcl_word, texts))}}}\n{PRINT_CODES}"

    told = subprocess.run(["tclsh"], input=script.encode("ascii"), stdout=-1, check=True).stdout

    assert [
        "".join(chr(int(code, 16)) for code in line.split())
        for line in told.decode("ascii").splitlines()
    ] == texts


PRINTABLE = st.text(min_size=1).filter(lambda text: text.isprintable() and text.strip())


@settings(max_examples=60, deadline=None)
@given(
    description=PRINTABLE,
    board=PRINTABLE,
    clock_hz=st.floats(1e6, 1e9),
    build_id=st.integers(1, 0xFFFFFFFF),
    resources=st.dictionaries(st.sampled_from(["LUT", "BRAM36"]), st.floats(0, 1e7)),
    slack_ns=st.floats(-1e3, 1e7),
)
def test_a_written_manifest_is_read_as_the_same(
    tmp_path_factory, description, board, clock_hz, build_id, resources, slack_ns
):
    manifest = replace(
        OVERLAY.manifest,
        description=description,
        board=board,
        clock_hz=clock_hz,
        build_id=build_id,
        resources={**resources, "slack_ns": slack_ns},
        resources_source="measured: by nobody",
    )

    text = manifest_text(manifest, "a-map", "for a test")

    path = tmp_path_factory.getbasetemp() / "bac-pot4.toml"
    assert parse_manifest(path, text) == (manifest, "a-map")
