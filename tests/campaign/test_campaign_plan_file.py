"""A campaign.toml that is read is one that runs; what is wrong with it is told all at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacmac.host.errors import InputError
from bacmac.overlays.registry import load_overlay
from bacmac.power.campaign.plan import CampaignPlan, Design, Pair
from bacmac.power.campaign.plan_file import load_plan

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = (ROOT / "docs" / "campaign.toml").read_text(encoding="utf-8")

VALUES = (
    *("0", "-1", "1e400", "nan", "true", "9" * 30, "1979-05-27", '""', '"/"', '"."', '"/dev/null"'),
    *("[]", "[[]]", "{}", '[1, "a"]', "[nan]", '["12V"]', "[187.5, 187.5]", '"\\u0000"', '"a\\nb"'),
    *('"emulated:1s-cache"', '"functional:clock-hz=-1"', '"hwmon:"', '"pynq:"', '"x.toml"'),
)
"""What a line's value is replaced by, as TOML."""

Write = Callable[..., Path]


@pytest.fixture
def write(packed_files: dict[str, Path], example_dir: Path, tmp_path: Path) -> Write:
    """Write the documented plan, changed by (old, new) pairs, beside all that it names."""
    for file in (*packed_files.values(), example_dir / "digits_test.npz"):
        shutil.copy(file, tmp_path)

    def make(*changes: tuple[str, str]) -> Path:
        text = EXAMPLE
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "campaign.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def without_arm(name: str) -> tuple[str, str]:
    """The change that leaves out an arm of the documented plan."""
    start = EXAMPLE.index(f"[arms.{name}]")
    return EXAMPLE[start : EXAMPLE.index("\n\n", start)], ""


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        load_plan(path)
    return str(refused.value)


def plan_or_refusal(path: Path) -> tuple[CampaignPlan | None, str]:
    try:
        return load_plan(path), ""
    except InputError as error:
        return None, str(error)


def test_the_documented_plan_is_the_file_beside_the_page() -> None:
    page = (ROOT / "docs" / "campaigns.md").read_text(encoding="utf-8")

    assert page.split("```toml\n")[1].split("```")[0] == EXAMPLE


def test_the_documented_plan_is_read(write: Write) -> None:
    plan = load_plan(write())

    assert [arm.name for arm in plan.arms] == ["bac", "mac4", "mac8"]
    assert [(c.index, c.batch_images, c.clock_hz) for c in plan.cells] == [
        (0, 16, 187.5e6),
        (1, 64, 187.5e6),
    ]
    assert len(plan.images.images) == 256
    assert plan.board == "emulated"
    assert plan.limits.max_die_c == 85.0


def test_what_is_not_said_has_its_default(write: Write) -> None:
    start = EXAMPLE.index("[design]")

    plan = load_plan(write((EXAMPLE[start:], "")))

    assert plan.design == Design()


def test_a_saving_is_split_into_bits_and_shift(write: Write) -> None:
    plan = load_plan(write())

    assert plan.pairs == (
        Pair("mac8", "bac", "saving"),
        Pair("mac8", "mac4", "bits"),
        Pair("mac4", "bac", "shift"),
    )


def test_without_a_multiplier_of_as_few_bits_the_plan_says_which_arm_is_missing(
    write: Write,
) -> None:
    text = refusal(write(without_arm("mac4")))

    assert "mac-uniform4" in text
    assert "--scheme uniform-4" in text
    assert "split = false" in text


def test_a_saving_may_be_left_whole_on_purpose(write: Write) -> None:
    plan = load_plan(write(without_arm("mac4"), ('name = "digits"', 'name = "d"\nsplit = false')))

    assert plan.pairs == (Pair("mac8", "bac", "saving"),)


def test_without_wide_weights_the_shift_is_the_only_question(write: Write) -> None:
    plan = load_plan(write(without_arm("mac8")))

    assert plan.pairs == (Pair("mac4", "bac", "shift"),)


def test_two_arms_of_one_overlay_and_model_are_an_a_a_pair(write: Write) -> None:
    one = '[arms.again]\noverlay = "bac-pot4e4"\nmodel = "digits-pot-4e4.safetensors"\n'

    plan = load_plan(write(without_arm("mac8"), (without_arm("mac4")[0], one)))

    assert plan.pairs == (Pair("again", "bac", "A/A"),)


def test_the_factorial_is_every_batch_at_every_clock(write: Write) -> None:
    plan = load_plan(write(("[187.5] ", "[187.5, 150, 125.0]")))

    assert {(c.batch_images, c.clock_hz) for c in plan.cells} == {
        (batch, hz) for batch in (16, 64) for hz in (187.5e6, 150e6, 125e6)
    }
    assert [c.index for c in plan.cells] == list(range(6))


def test_a_clock_is_the_one_that_the_board_reaches(write: Write) -> None:
    plan = load_plan(write(("[187.5] ", "[166.67]")))

    assert {c.clock_hz for c in plan.cells} == {1.5e9 / 9}


def test_an_overlay_may_be_a_manifest_beside_the_plan(write: Write, tmp_path: Path) -> None:
    shutil.copy(load_overlay("bac-pot4e4").folder / "bac-pot4e4.toml", tmp_path)

    plan = load_plan(write(('overlay = "bac-pot4e4" ', 'overlay = "./bac-pot4e4.toml"')))

    assert plan.arms[0].overlay.folder == tmp_path
    assert (
        plan.sha256
        == load_plan(write(('overlay = "bac-pot4e4" ', 'overlay = "./bac-pot4e4.toml"'))).sha256
    )


@pytest.mark.parametrize(
    ("old", "new", "field", "expected"),
    [
        ('name = "digits"', 'name = "a b"', "name", "letters and digits"),
        ('name = "digits"', "", "name", "found nothing"),
        ('"functional:" ', '"fpga:"', "device", "functional:"),
        ('"functional:" ', '"functional:no-such=1"', "device", "no-such"),
        ('"functional:" ', '"rtl:no-such=1"', "device", "no-such"),
        ('"functional:" ', '"pynq:other"', "device", "pynq:emulated"),
        ('"functional:" ', '"pynq:"', "board", "which board it is"),
        ('"functional:" ', '"ssh://board"', "device", "one of functional:"),
        ('"emulated:" ', '"emulated:nope"', "rails", "no emulated board"),
        ('"emulated:" ', '"hwmon:"', "rails", "real sensors see nothing"),
        ('"emulated:" ', '"usb:"', "rails", "hwmon:"),
        ('["12V", "INT"]', '["12V", "13V"]', "rails", "13V"),
        ('["12V", "INT"]', '["12V", "12V"]', "rail_names", "each rail once"),
        ('["12V", "INT"]', '"12V"', "rail_names", "an array"),
        ("digits_test.npz", "none.npz", "images", "none.npz"),
        ("digits_test.npz", "digits-pot-4e4.safetensors", "images", "digits-pot-4e4"),
        ("n_images = 256 ", "n_images = 9999", "n_images", "at most 500"),
        ("[16, 64]", "[16, 257]", "batch_images.1", "1 .. 256"),
        ("[16, 64]", "[16, 16]", "batch_images", "each size once"),
        ("[16, 64]", "[0]", "batch_images.0", "1 .. 256"),
        ("[16, 64]", "[]", "batch_images", "one item or more"),
        ("[187.5] ", "[200]", "clocks_mhz.0", "187.6"),
        ("[187.5] ", "[170]", "clocks_mhz.0", "1500 over a whole number"),
        ("[187.5] ", "[150, 150.01]", "clocks_mhz", "each clock once"),
        ('overlay = "mac-uniform8"', 'overlay = "mac9"', "arms.mac8.overlay", "mac-uniform8"),
        ('overlay = "mac-uniform8"', "", "arms.mac8.overlay", "found nothing"),
        ('overlay = "mac-uniform8"', "overlay = 8", "arms.mac8.overlay", "one line of text"),
        ('overlay = "mac-uniform8"', 'overlay = "bac-pot4"', "arms.mac8.overlay", "uniform-8"),
        ("digits-uniform-8.safe", "digits-uniform-9.safe", "arms.mac8.model", "No such file"),
        ("digits-uniform-8.safetensors", "digits_test.npz", "arms.mac8.model", "digits_test"),
        ("run_s = 10.0", "run_s = 0.9", "design.run_s", "more than twice guard_s"),
        ("run_s = 10.0", "run_s = nan", "design.run_s", "a number"),
        ("run_s = 10.0", 'run_s = "10"', "design.run_s", "a number"),
        ("run_s = 10.0", "run_s = true", "design.run_s", "a number"),
        ("aa_blocks = 10", "aa_blocks = 1", "design.aa_blocks", "for an interval"),
        ("pilot_blocks = 10", "pilot_blocks = 1", "design.pilot_blocks", "2 .. 10000"),
        ("max_blocks = 60", "max_blocks = 9", "design.max_blocks", "at least pilot_blocks"),
        ("seed = 1 ", "seed = -1", "design.seed", "an integer"),
        ("seed = 1 ", "sed = 1", "design.sed", "no such key"),
        (
            "idle_s = 5.0",
            "idle_s = 0.1\nsample_period_s = 1",
            "design.sample_period_s",
            "four samples",
        ),
        ("max_die_c = 85.0", "max_die = 85", "limits.max_die", "no such key"),
        ("max_die_c = 85.0", "max_die_c = -5", "limits.max_die_c", "a number"),
        ("max_die_c = 85.0", "fixed_governors = [1]", "limits.fixed_governors.0", "one line"),
        ("[limits]", "[limit]", "limit", "no such key"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_expected(
    write: Write, old: str, new: str, field: str, expected: str
) -> None:
    text = refusal(write((old, new)))

    assert f"campaign.toml: {field}: found" in text or f"also {field}: found" in text
    assert expected in text


def test_all_problems_are_told_at_once(write: Write) -> None:
    text = refusal(write(('"emulated:" ', '"emulated:x"'), ("seed = 1 ", "seed = -1")))

    assert "rails: found 'emulated:x'" in text
    assert "design.seed: found -1" in text


def test_one_arm_makes_no_campaign(write: Write) -> None:
    assert "2 to 8 arms" in refusal(write(without_arm("mac8"), without_arm("mac4")))


def test_multipliers_alone_make_no_pair(write: Write) -> None:
    assert "a bac arm and a mac arm" in refusal(write(without_arm("bac")))


def test_models_that_see_other_inputs_are_refused(write: Write, tmp_path: Path) -> None:
    plan = write()
    with np.load(tmp_path / "digits_test.npz") as arrays:
        images = arrays["images"]
    np.savez(tmp_path / "digits_test.npz", images=images[:, :, :5])

    assert "images: found 'digits_test.npz'" in refusal(plan)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_stands_there_is_a_plan_or_told_in_one_line(
    write: Write, data: st.DataObject
) -> None:
    lines = EXAMPLE.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        key = lines[place].partition("=")[0]
        lines[place] = f"{key}= {data.draw(st.sampled_from(VALUES))}"
    path = write()
    path.write_text("\n".join(lines), encoding="utf-8")

    plan, told = plan_or_refusal(path)

    assert (plan is None) == bool(told)
    assert plan is None or (plan.pairs and plan.cells and len(plan.sha256) == 64)
    assert len(told.splitlines()) <= 1


@pytest.mark.parametrize("text", ["a = ", "\0", "[arms]\n[arms]"])
def test_what_is_no_toml_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "campaign.toml"
    path.write_text(text, encoding="utf-8")

    assert "expected TOML 1.0" in refusal(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "campaign.toml")


def test_the_digest_is_of_what_is_planned_and_not_of_where_it_lies(
    write: Write, tmp_path: Path
) -> None:
    path = write()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in [*tmp_path.glob("*.safetensors"), *tmp_path.glob("*.npz"), path]:
        shutil.copy(file, elsewhere)

    assert load_plan(path).sha256 == load_plan(elsewhere / "campaign.toml").sha256


def test_the_digest_tells_every_change(write: Write, tmp_path: Path) -> None:
    first = load_plan(write())
    digests = {first.sha256}
    digests.add(load_plan(write(("seed = 1 ", "seed = 2 "))).sha256)
    digests.add(load_plan(write(("max_die_c = 85.0", "max_die_c = 84.0"))).sha256)
    with np.load(tmp_path / "digits_test.npz") as arrays:
        changed = dict(arrays)
    changed["images"] = changed["images"].copy()
    changed["images"][0, 0, 0] ^= 1
    np.savez(tmp_path / "digits_test.npz", **changed)
    digests.add(load_plan(write()).sha256)
    shutil.copy(tmp_path / "digits-uniform-4.safetensors", tmp_path / "x.safetensors")
    digests.add(load_plan(write(("digits-uniform-8.safe", "x.safe"))).sha256)

    assert len(digests) == 5
    assert first.sha256 not in digests - {first.sha256}


def test_a_bitstream_is_part_of_the_digest(write: Write, tmp_path: Path) -> None:
    shutil.copy(load_overlay("bac-pot4e4").folder / "bac-pot4e4.toml", tmp_path)
    path = write(('overlay = "bac-pot4e4" ', 'overlay = "./bac-pot4e4.toml"'))
    before = load_plan(path).sha256

    (tmp_path / "bac-pot4e4.bit").write_bytes(b"a build")

    assert load_plan(path).sha256 != before
