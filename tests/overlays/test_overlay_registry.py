"""Overlays are found by name or path, and their texts are read strictly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.arith.schemes import SCHEMES
from bacmac.host.errors import OverlayError
from bacmac.overlays.registry import (
    find_manifest,
    list_overlays,
    load_overlay,
    parse_manifest,
    parse_register_map,
)
from bacmac.overlays.strict_toml import MAX_BYTES

SHIPPED = find_manifest("bac-pot4").parent
MANIFEST = (SHIPPED / "bac-pot4.toml").read_text()
LUT = next(line for line in MANIFEST.splitlines() if line.startswith("LUT = "))
MAP = (SHIPPED.parent / "regmaps" / "accelerator-v2.toml").read_text()


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def test_the_shipped_overlays_differ_only_in_the_product_term() -> None:
    overlays = list_overlays()

    assert [(o.manifest.name, o.manifest.product, o.manifest.scheme) for o in overlays] == [
        ("bac-pot4", "bac", "pot-4"),
        ("bac-pot4e4", "bac", "pot-4e4"),
        ("mac-uniform4", "mac", "uniform-4"),
        ("mac-uniform8", "mac", "uniform-8"),
    ]
    assert len({o.manifest.build_id for o in overlays}) == 4
    assert len({o.sha256 for o in overlays}) == 4
    for kind in ("geometry", "buffers", "clock_hz", "part", "beat_bytes", "max_transfer_bytes"):
        first, *others = (getattr(o.manifest, kind) for o in overlays)
        assert all(other == first for other in others), kind
    assert all(o.registers == overlays[0].registers for o in overlays)


def test_resources_of_memories_follow_from_the_buffers() -> None:
    for overlay in list_overlays():
        buffers, resources = overlay.manifest.buffers, overlay.manifest.resources
        in_blocks = buffers.activation_bytes + buffers.constant_bytes + buffers.program_bytes
        # and a few for the counters of layers
        assert in_blocks / 4096 <= resources["BRAM36"] <= in_blocks / 4096 + 8
        assert resources["URAM"] == buffers.weight_bytes / 32768
        assert overlay.manifest.resources_source.startswith("estimate: ")


def test_every_level_of_8_bits_or_less_runs_on_the_8_bit_multiplier() -> None:
    widest = set(SCHEMES[load_overlay("mac-uniform8").manifest.scheme].levels.tolist())

    narrow = [scheme for scheme in SCHEMES.values() if scheme.max_level < 128]
    assert len(narrow) == len(SCHEMES) - 1
    assert all(set(scheme.levels.tolist()) <= widest for scheme in narrow)


def test_an_overlay_of_ones_own_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    text = replaced(MANIFEST, 'name = "bac-pot4"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(text)

    by_name = load_overlay("mine", [tmp_path])

    assert (
        by_name == load_overlay(str(tmp_path / "mine.toml")) == load_overlay(tmp_path / "mine.toml")
    )
    assert [o.manifest.name for o in list_overlays([tmp_path])][-1] == "mine"
    assert by_name.folder == tmp_path


def test_a_register_map_of_ones_own_comes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(replaced(MANIFEST, '"bac-pot4"', '"mine"'))
    before = load_overlay("mine", [tmp_path])
    (tmp_path / "regmaps").mkdir()
    own = replaced(MAP, "version = 2", "version = 3")
    (tmp_path / "regmaps" / "accelerator-v2.toml").write_text(own)

    after = load_overlay("mine", [tmp_path])

    assert (before.registers.version, after.registers.version) == (2, 3)
    assert before.sha256 != after.sha256


def test_line_endings_do_not_change_what_an_overlay_is(tmp_path: Path) -> None:
    (tmp_path / "bac-pot4.toml").write_bytes(MANIFEST.replace("\n", "\r\n").encode())

    assert load_overlay(tmp_path / "bac-pot4.toml") == load_overlay("bac-pot4")


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(OverlayError, match=r"'bac-pot5'.*bac-pot4, bac-pot4e4, mac-uniform4"):
        load_overlay("bac-pot5")


def build_of(folder: Path, *changes: tuple[str, str]) -> Path:
    """A folder with a manifest of a shipped overlay's name."""
    folder.mkdir(exist_ok=True)
    text = MANIFEST
    for old, new in changes:
        text = replaced(text, old, new)
    (folder / "bac-pot4.toml").write_text(text)
    return folder


def test_a_build_takes_the_place_of_the_shipped_overlay(tmp_path: Path) -> None:
    folder = build_of(
        tmp_path,
        (LUT, "LUT = 31000\nslack_ns = 0.25"),
        ('source = "estimate: ', 'source = "measured: '),
        ('description = "', 'description = "built: '),
        ('"bac-pot4.bit"', '"bacmac.bit"'),
    )

    found = load_overlay("bac-pot4", [folder])

    assert found.folder == folder
    assert found.manifest.resources["LUT"] == 31000
    assert [o.folder for o in list_overlays([folder])] == [folder, *(SHIPPED,) * 3]
    assert load_overlay("bac-pot4").folder == SHIPPED
    assert load_overlay("bac-pot4", [folder, folder / "."]).folder == folder


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ([("clock_hz = 187.5e6", "clock_hz = 150e6")], "clock_hz"),
        ([("inputs = 16", "inputs = 8"), ("abi = 2", "abi = 3")], "abi, geometry"),
        ([("build_id = 0xBAC40001", "build_id = 0xBAC40009")], "build_id"),
    ],
)
def test_what_is_no_build_of_it_cannot_shadow_a_shipped_overlay(
    tmp_path: Path, changes: list[tuple[str, str]], differing: str
) -> None:
    folder = build_of(tmp_path, *changes)

    with pytest.raises(
        OverlayError, match=f"which .*bac-pot4.toml has too, and differs in {differing};"
    ):
        load_overlay("bac-pot4", [folder])
    assert load_overlay(folder / "bac-pot4.toml").folder == folder


def test_another_register_map_is_no_build(tmp_path: Path) -> None:
    (build_of(tmp_path) / "regmaps").mkdir()
    (tmp_path / "regmaps" / "accelerator-v2.toml").write_text(
        replaced(MAP, "version = 2", "version = 3")
    )

    with pytest.raises(OverlayError, match="differs in register map;"):
        list_overlays([tmp_path])


def test_two_builds_of_one_name_are_an_error(tmp_path: Path) -> None:
    folders = [build_of(tmp_path / "one"), build_of(tmp_path / "two")]

    with pytest.raises(
        OverlayError, match=r"one/bac-pot4\.toml has too; expected one manifest for"
    ):
        list_overlays(folders)


def test_a_folder_given_twice_is_no_duplicate(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(replaced(MANIFEST, '"bac-pot4"', '"mine"'))

    assert len(list_overlays([tmp_path, tmp_path / "." / ""])) == 5


def test_all_problems_of_a_file_are_told_in_one_line() -> None:
    text = replaced(MANIFEST, "abi = 2", "abi = 0")
    text = replaced(text, "beat_bytes = 16", "beat_bites = 16")

    with pytest.raises(OverlayError) as caught:
        parse_manifest(Path("bac-pot4.toml"), text)

    assert caught.value.field == "abi"
    assert "also beat_bytes: found nothing" in str(caught.value)
    assert "also beat_bites: found an unknown key" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "bac-pot4"', 'name = "other"', "name"),
        ('name = "bac-pot4"', 'name = "../etc"', "name"),
        ('description = "', 'description = "\\u0007', "description"),
        ("abi = 2", "abi = 2.0", "abi"),
        ("abi = 2", "abi = true", "abi"),
        ("abi = 2", 'abi = "1"', "abi"),
        ('"accelerator-v2"', '"no-such-map/.."', "register_map"),
        ('product = "bac"', 'product = "sac"', "product"),
        ('scheme = "pot-4"', 'scheme = "pot-9"', "scheme"),
        ('scheme = "pot-4"', 'scheme = "uniform-4"', "scheme"),
        ("build_id = 0xBAC40001", "build_id = 0", "build_id"),
        ("build_id = 0xBAC40001", "build_id = 0x100000000", "build_id"),
        ("clock_hz = 187.5e6", "clock_hz = nan", "clock_hz"),
        ("clock_hz = 187.5e6", "clock_hz = 200", "clock_hz"),
        ("beat_bytes = 16", "beat_bytes = 12", "beat_bytes"),
        ("0x3FFFFFF ", "0x3FFFFFE ", "max_transfer_bytes"),
        ("0x3FFFFFF ", "0x7FFFFFF ", "max_transfer_bytes"),
        ("dma_base = 0xA0010000", "dma_base = 0xA0010001", "dma_base"),
        ("dma_base = 0xA0010000", "dma_base = 0", "dma_base"),
        ('part = "xczu7ev', 'part = "zu7ev', "part"),
        ("pixel_tile = 64", "pixel_tile = 0", "geometry.pixel_tile"),
        ("group_outputs = 16", "group_outputs = 24", "geometry.group_outputs"),
        ("max_descriptors = 256", "", "buffers.max_descriptors"),
        ("[buffers]", "buffers = 1\n[bluffers]", "geometry.buffers"),
        ('"bac-pot4.bit"', '"../bac-pot4.bit"', "files.bitstream"),
        ('"bac-pot4.hwh"', '"bac-pot4.xml"', "files.hwh"),
        ('source = "estimate:', 'source = "guess:', "resources.source"),
        (LUT, "LUT = -1", "resources.LUT"),
        (LUT, "LUTS = 7526", "resources.LUTS"),
        ("[geometry]", "[[geometry]]", "geometry"),
        ("[geometry]", "[geometry", "text"),
        ("abi = 2", "abi = 2\nabi = 2", "text"),
        ("abi = 2", f"abi = {'[' * 100_000}", "text"),
    ],
)
def test_a_wrong_manifest_names_its_field(old: str, new: str, field: str) -> None:
    with pytest.raises(OverlayError) as caught:
        parse_manifest(Path("bac-pot4.toml"), replaced(MANIFEST, old, new))

    told = {caught.value.field, *caught.value.hint.replace("also ", "").split("; ")}
    assert any(text.partition(":")[0] == field for text in told), caught.value
    assert len(str(caught.value)) <= 600


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('name = "accelerator-v2"', 'name = "accelerator-v3"', "name"),
        ("size_bytes = 0x1000", "size_bytes = 0x1800", "size_bytes"),
        ("offset = 0x04", "offset = 0x06", "register[1].offset"),
        ("offset = 0x04", "offset = 0x00", "register[1].offset"),
        ("offset = 0x04", "offset = 0x1000", "register[1].offset"),
        ("offset = 0x04", "offset = -4", "register[1].offset"),
        ('name = "ABI"', 'name = "ID"', "register[1].name"),
        ('name = "ABI"', 'name = "abi"', "register[1].name"),
        ('access = "read-only"', 'access = "r"', "register[0].access"),
        ("reset = 0x4241434D", "reset = 0x14241434D", "register[0].reset"),
        ('"SOFT_RESET", lsb = 1', '"SOFT_RESET", lsb = 0', "register[3].fields[1].lsb"),
        ('"SOFT_RESET", lsb = 1', '"START", lsb = 1', "register[3].fields[1].name"),
        (
            '"START", lsb = 0, width = 1',
            '"START", lsb = 31, width = 2',
            "register[3].fields[0].width",
        ),
        ('"START", lsb = 0, width = 1', '"START", lsb = 0', "register[3].fields[0].width"),
        ("[[register]]", "[[registers]]", "register[0].name"),
    ],
)
def test_a_wrong_register_map_names_its_field(old: str, new: str, field: str) -> None:
    text = replaced(MAP, old, new)
    if field == "register[0].name":  # the first table misspelt: an unknown key beside the others
        field = "registers"

    with pytest.raises(OverlayError) as caught:
        parse_register_map(Path("accelerator-v2.toml"), text)

    told = {caught.value.field, *caught.value.hint.replace("also ", "").split("; ")}
    assert any(text.partition(":")[0] == field for text in told), caught.value


def test_a_map_without_registers_is_refused() -> None:
    text = 'name = "empty"\nversion = 1\nsize_bytes = 0x1000\nregister = []\n'

    with pytest.raises(OverlayError, match="register: found \\[\\]; expected one or more tables"):
        parse_register_map(Path("empty.toml"), text)


def write_directory(path: Path) -> None:
    path.mkdir()


def write_binary(path: Path) -> None:
    path.write_bytes(b'name = "\xff"')


def write_huge(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_BYTES + 1))


def write_unknown_map(path: Path) -> None:
    path.write_text(replaced(MANIFEST, '"accelerator-v2"', '"accelerator-v9"'))


def write_nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("write", "field"),
    [
        (write_nothing, "file"),
        (write_directory, "file"),
        (write_huge, "file"),
        (write_binary, "byte 8"),
        (write_unknown_map, "register_map"),
    ],
)
def test_an_unusable_file_is_an_overlay_error(
    tmp_path: Path, write: Callable[[Path], None], field: str
) -> None:
    path = tmp_path / "bac-pot4.toml"
    write(path)

    with pytest.raises(OverlayError) as caught:
        load_overlay(path)

    assert caught.value.field == field
    assert caught.value.file == str(path)


def test_a_missing_folder_is_an_overlay_error(tmp_path: Path) -> None:
    with pytest.raises(OverlayError, match="a readable folder"):
        list_overlays([tmp_path / "none"])


def test_names_come_from_the_package_and_not_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SHIPPED, tmp_path / "overlays" / "manifests")
    monkeypatch.chdir(tmp_path)

    assert find_manifest("bac-pot4") == SHIPPED / "bac-pot4.toml"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_only_an_overlay_error_leaves_the_parser(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([MANIFEST, MAP]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    noise = data.draw(st.text(alphabet=st.characters(codec="utf-8"), max_size=20))
    damaged = text[:start] + noise + text[end:]

    told = []
    for parse in (parse_manifest, parse_register_map):
        try:
            parse(Path("bac-pot4.toml"), damaged)
        except OverlayError as error:
            told.append(str(error))

    assert all("\n" not in text for text in told)
