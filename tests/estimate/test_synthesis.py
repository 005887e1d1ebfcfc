"""Yosys reads all of the RTL, and what it makes of it is counted whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from bacmac.host.errors import OverlayError
from bacmac.overlays.estimate.configurations import NAIVE, find_configurations
from bacmac.overlays.estimate.sites import Resources
from bacmac.overlays.estimate.synthesis import (
    TOP,
    ModuleUse,
    Utilisation,
    copies_that_fit,
    memory_words,
    module_uses,
)
from bacmac.overlays.estimate.yosys import RTL_FOLDER, elaborate, rtl_sources, synthesize

TINY = """
module tiny #(parameter integer N = 2) (input wire clk, input wire [N-1:0] a, b,
                                        output reg [N-1:0] q);
  wire [N-1:0] both;
  part #(.N(N)) one (.a(a), .b(b), .y(both));
  always_ff @(posedge clk) q <= both;
endmodule
"""
PART = """
module part #(parameter integer N = 2) (input wire [N-1:0] a, b, output wire [N-1:0] y);
  assign y = a & b;
endmodule
"""
SOURCES = {"tiny.sv": TINY, "part.sv": PART}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACMAC_CACHE", str(tmp_path))
    return tmp_path


def test_yosys_reads_every_source() -> None:
    sources = rtl_sources()
    assert {path.name for path in RTL_FOLDER.glob("*.sv")} == {n for n in sources if n[-2:] == "sv"}

    elaborate(TOP)


def test_a_netlist_is_kept_until_the_code_below_its_top_changes(own_cache: Path) -> None:
    def kept() -> int:
        return len(list(own_cache.glob("netlists/*.json.gz")))

    first = synthesize("tiny", {"N": 4}, sources=SOURCES)
    same = {**SOURCES, "tiny.sv": f"// a remark\n{TINY}", "other.sv": "module other; endmodule"}
    again = synthesize("tiny", {"N": 4}, sources=same)
    assert first == again
    assert kept() == 1

    synthesize("tiny", {"N": 4}, sources={**SOURCES, "part.sv": PART.replace("&", "|")})
    assert kept() == 2


def test_each_module_is_counted_by_itself_with_its_parameters() -> None:
    netlist = synthesize("tiny", {"N": 4}, flat=("none",), sources=SOURCES)

    uses = {use.module: use for use in module_uses(netlist, "tiny")}
    assert uses["part"].resources == Resources(lut=4, lut_sites=uses["part"].resources.lut_sites)
    assert uses["tiny"].resources == Resources(ff=4)


def test_a_source_that_is_no_verilog_is_refused_in_yosys_own_words() -> None:
    with pytest.raises(OverlayError, match=r"tiny\.sv: synthesis: found .*ERROR: .*syntax error"):
        synthesize("tiny", {}, sources={**SOURCES, "part.sv": "module part; wire = ;"})


def test_a_folder_without_rtl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OverlayError, match=r"expected the accelerator's RTL"):
        rtl_sources(tmp_path)


def test_the_lanes_of_a_configuration_count_once_a_lane() -> None:
    """On the smallest array: one channel and all below it."""
    configuration = find_configurations(["mac-uniform4"])[0].resized(8, 8)
    netlist = synthesize("bacmac_lane", configuration.lane_parameters, dsp=False)

    (lane,) = module_uses(netlist, "bacmac_lane")
    assert 100 < lane.resources.lut_sites < lane.resources.lut
    assert lane.resources.dsp == 0


def test_the_array_is_lanes_and_channels() -> None:
    one = Resources(lut=2, lut_sites=1, ff=3)
    names = ("bacmac_lane", "bacmac_channel", "bacmac_run", "bacmac_memory 1024 x 128")
    found = Utilisation("any", "yosys", tuple(ModuleUse(name, 1, one, "yosys") for name in names))

    assert found.array == one.times(2)
    assert found.total == one.times(4)
    assert found.module("bacmac_memory") == one


def test_every_overlay_and_the_naive_multiplier_are_configurations() -> None:
    found = {c.name: c for c in find_configurations()}

    assert {"bac-pot4", "mac-uniform4", "mac-uniform8", NAIVE} <= set(found)
    assert len({c.product for c in found.values()}) == len(found)
    assert found[NAIVE].geometry == found["mac-uniform4"].geometry


def test_names_choose_configurations_and_unknown_ones_are_refused() -> None:
    assert [c.name for c in find_configurations([NAIVE, "bac-pot4"])] == [NAIVE, "bac-pot4"]
    with pytest.raises(OverlayError, match="one of bac-pot4"):
        find_configurations(["bac"])


def test_memories_are_as_deep_as_the_manifest_says() -> None:
    configuration = find_configurations(["bac-pot4"])[0]

    words = memory_words(configuration)
    assert words[17] == configuration.manifest.buffers.weight_bytes // 16
    assert words[11] == configuration.manifest.buffers.constant_bytes // (12 * 16)


@pytest.mark.parametrize(
    ("one", "copies"),
    [
        (Resources(lut=60_000, lut_sites=50_000), 3),  # 161,280 sites are 70 %
        (Resources(lut_sites=1000, uram=40), 2),
        (Resources(lut_sites=170_000), 0),
    ],
)
def test_what_fits_side_by_side_leaves_room_to_route(one: Resources, copies: int) -> None:
    assert copies_that_fit(one) == copies
