"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from bacmac.host.errors import OutputError
from bacmac.host.files import remove_parts, replace_atomically, write_bytes, write_text


def _write_half(target: Path, error: BaseException) -> None:
    with replace_atomically(target) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error


def test_a_new_file_holds_what_was_written(tmp_path):
    write_text(tmp_path / "a.txt", "größer\n")

    assert (tmp_path / "a.txt").read_bytes() == "größer\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").touch()

    write_bytes(tmp_path / "ours", b"")

    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"old")

    with pytest.raises(ZeroDivisionError):
        _write_half(target, ZeroDivisionError())

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_ctrl_c_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _write_half(tmp_path / "a", KeyboardInterrupt())

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device; nothing was changed") as found:
        write_bytes(target, b"new")

    assert str(target) in str(found.value)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["no/such/folder/a", "plain/a"])
def test_a_folder_that_is_not_there_is_an_output_error(name, tmp_path):
    (tmp_path / "plain").touch()

    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / name, b"")


def test_a_folder_in_the_way_stays(tmp_path):
    (tmp_path / "a").mkdir()

    with pytest.raises(OutputError):
        write_bytes(tmp_path / "a", b"")

    assert (tmp_path / "a").is_dir()


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    target = tmp_path / "a[1].json"
    others = [target, tmp_path / ".b.json.x.part", tmp_path / "a[1].json.x.part"]
    for path in others:
        path.write_text("kept")
    for end in ("abc", "def"):
        (tmp_path / f".a[1].json.{end}.part").write_text("half")

    remove_parts(target)
    remove_parts(tmp_path / "gone" / "b.json")

    assert sorted(tmp_path.iterdir()) == sorted(others)
