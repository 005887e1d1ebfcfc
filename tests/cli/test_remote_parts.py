"""The parts of a remote run: frames, addresses, the shell on the board, claims, plans, progress."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.cli import output, remote_board, remote_job
from bacmac.cli.choices import FILE, OUTPUT, OVERLAY
from bacmac.cli.remote_command import DeviceCommand, Plan, make_plan
from bacmac.cli.remote_job import Job, job_state
from bacmac.cli.remote_link import BOARD_PROGRAMS, MISSING, NOT_ROOT, _board_command, parse_address
from bacmac.cli.remote_protocol import (
    GREETING,
    LinkLostError,
    installed,
    is_job_name,
    job_age_s,
    new_job_name,
    receive_frame,
    send_frame,
)
from bacmac.cli.remote_run import _target
from bacmac.host.errors import DeviceError, InputError

JOB = Job("20260101-000000-00000000", ("--version",), "/me", (), (), (), 0)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A board's cache of its own."""
    monkeypatch.setenv("BACMAC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@given(
    message=st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())),
    body=st.binary(max_size=5000),
)
def test_a_frame_survives_the_pipe(message, body):
    reading, writing = os.pipe()
    send_frame(writing, message, body)
    os.close(writing)

    assert receive_frame(reading, 1.0) == (message, body)
    with pytest.raises(LinkLostError, match="closed"):
        receive_frame(reading, 1.0)
    os.close(reading)


@given(st.binary(max_size=64))
def test_what_is_no_frame_is_a_lost_link(noise):
    reading, writing = os.pipe()
    os.write(writing, noise)
    os.close(writing)

    with pytest.raises(LinkLostError):
        receive_frame(reading, 1.0)
    os.close(reading)


def test_silence_is_a_lost_link():
    reading, writing = os.pipe()

    with pytest.raises(LinkLostError, match="in time"):
        receive_frame(reading, 0.01)
    os.close(reading)
    os.close(writing)


def test_names_of_jobs_are_new_and_tell_their_age():
    first, second = new_job_name(), new_job_name()

    assert first != second
    assert is_job_name(first)
    assert job_age_s(first) < 60
    assert job_age_s("20260101-000000-00000000") > 86400


@pytest.mark.parametrize(
    ("text", "destination", "port", "word"),
    [
        ("ssh://zcu104", "zcu104", None, "pynq:"),
        ("ssh://me@zcu104/", "me@zcu104", None, "pynq:"),
        ("ssh://me@10.0.0.2:2222/rtl:seed=1", "me@10.0.0.2", 2222, "rtl:seed=1"),
        ("ssh://me@[fe80::1]:22/hwmon:/sys/x", "me@fe80::1", 22, "hwmon:/sys/x"),
    ],
)
def test_an_address_is_read(text, destination, port, word):
    address = parse_address(text)

    assert (address.destination, address.port, address.word) == (destination, port, word)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["ssh://", "ssh://-oProxyCommand=id", "ssh://a@-b", "ssh://a:0", "ssh://a:99999", "ssh://a b"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InputError, match=r"expected ssh://\[user@\]board"):
        parse_address(text)


def _program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Run what `ssh` would on a board with nothing but the programs in `tmp_path / "bin"`."""
    monkeypatch.delenv("BACMAC_REMOTE", raising=False)
    (tmp_path / "bin").mkdir()
    for name in ("sh", "env"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))

    def call(word: str, interpreter: str = "sh") -> subprocess.CompletedProcess[str]:
        command = _board_command(parse_address(f"ssh://board/{word}"))
        return subprocess.run(
            [str(shutil.which(interpreter)), "-c", command],
            env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")},
            text=True,
            capture_output=True,
            check=False,
            timeout=20,
        )

    return call


@pytest.mark.parametrize("interpreter", ["sh", "bash"])
def test_bacmac_is_found_on_the_path_or_at_home(shell, tmp_path, interpreter):
    _program(tmp_path / "home" / ".local" / "bin", "bacmac", 'echo home "$@"')

    at_home = shell("functional:", interpreter)
    _program(tmp_path / "bin", "bacmac", 'echo path "$@"')
    on_path = shell("functional:", interpreter)

    assert at_home.stdout == "home remote board\n"
    assert on_path.stdout == "path remote board\n"


@pytest.mark.parametrize("word", ["pynq:", "functional:"])
def test_any_login_shell_passes_the_script_on(word, monkeypatch):
    monkeypatch.delenv("BACMAC_REMOTE", raising=False)

    command = _board_command(parse_address(f"ssh://board/{word}"))

    # csh and fish read these otherwise than sh, even inside single quotes
    assert command.count("'") == 2
    assert not set("\\!\n") & set(command)


def test_no_bacmac_is_said_in_place_of_the_greeting(shell):
    assert Path(BOARD_PROGRAMS[-1]).is_absolute()
    assert not Path(BOARD_PROGRAMS[-1]).exists()

    outcome = shell("functional:")

    assert (outcome.stdout, outcome.returncode) == (f"{MISSING}\n", 127)


def test_pynq_is_run_as_root_by_sudo_and_nothing_else_is(shell, tmp_path):
    _program(tmp_path / "bin", "id", "echo 1000")
    _program(tmp_path / "bin", "true", "exit 0")
    _program(tmp_path / "bin", "sudo", 'echo sudo "$@" >&2; shift; [ "$1" = -H ] && shift; "$@"')
    _program(tmp_path / "bin", "bacmac", 'echo ran "$@"')

    as_root = shell("pynq:")
    emulated = shell("pynq:emulated")

    assert as_root.stdout == "ran remote board\n"
    assert "sudo -n -H env" in as_root.stderr
    assert emulated.stdout == "ran remote board\n"
    assert emulated.stderr == ""


def test_root_needs_no_sudo(shell, tmp_path):
    _program(tmp_path / "bin", "id", "echo 0")
    _program(tmp_path / "bin", "bacmac", 'echo ran "$@"')

    assert shell("pynq:").stdout == "ran remote board\n"


def test_a_sudo_that_asks_for_a_password_is_said(shell, tmp_path):
    _program(tmp_path / "bin", "id", "echo 1000")
    _program(tmp_path / "bin", "sudo", "echo sudo: a password is required >&2; exit 1")
    _program(tmp_path / "bin", "bacmac", 'echo ran "$@"')

    assert shell("pynq:").stdout == f"{NOT_ROOT}\n"


def test_an_input_arrives_in_parts_that_may_come_twice(cache):
    data = bytes(range(256)) * 5
    sha256, size = hashlib.sha256(data).hexdigest(), len(data)

    def put(offset: int, part: bytes) -> int:
        answer, _ = remote_board.put(body=part, sha256=sha256, offset=offset, size=size)
        return int(answer["have"])

    assert put(0, b"") == 0
    assert put(0, data[:500]) == 500
    assert put(0, data[:500]) == 500  # the answer was lost
    assert put(0, b"") == 500  # the link was
    assert put(500, data[500:]) == size
    assert put(500, data[500:]) == size
    assert (cache / "blobs" / sha256).read_bytes() == data


def test_an_input_that_was_damaged_there_is_asked_for_again(cache):
    data = b"x" * 100
    sha256 = hashlib.sha256(data).hexdigest()
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / f"{sha256}.part").write_bytes(b"?" * 60)

    first, _ = remote_board.put(body=data[60:], sha256=sha256, offset=60, size=100)
    second, _ = remote_board.put(body=data, sha256=sha256, offset=0, size=100)

    assert (first["have"], second["have"]) == (0, 100)
    assert (cache / "blobs" / sha256).read_bytes() == data


def test_an_input_without_a_byte_arrives(cache):
    sha256 = hashlib.sha256(b"").hexdigest()

    answer, _ = remote_board.put(body=b"", sha256=sha256, offset=0, size=0)

    assert answer["have"] == 0
    assert (cache / "blobs" / sha256).read_bytes() == b""


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/nul\0"])
def test_a_path_that_leaves_the_job_is_refused(cache, path):
    with pytest.raises(DeviceError, match="absolute path"):
        remote_job.create_job(replace(JOB, cwd=path))


def test_an_input_that_has_not_arrived_is_said(cache):
    with pytest.raises(DeviceError, match="has not arrived"):
        remote_job.create_job(replace(JOB, inputs=(("/me/x", "0" * 64),)))


def _state_at_the_end() -> tuple[str, int]:
    while True:
        answer, _ = remote_board.watch(body=b"", job=JOB.name, offset=0, wait_s=1.0)
        if answer["state"] != "running":
            return answer["state"], answer["status"]


def test_a_job_that_is_started_by_many_runs_once(cache):
    folder = remote_job.create_job(JOB)
    runners = [
        subprocess.Popen([sys.executable, "-m", "bacmac.cli.remote_job", str(folder)])
        for _ in range(4)
    ]
    assert [runner.wait(30) for runner in runners] == [0, 0, 0, 0]

    remote_job.start_job(folder)

    assert _state_at_the_end() == ("ended", 0)
    assert (folder / "stdout").read_text().count("version") == 1
    assert remote_job.create_job(replace(JOB, words=("--help",))) == folder
    assert remote_job.read_job(folder) == JOB


def test_a_job_begins_when_it_is_watched(cache):
    folder = remote_job.create_job(JOB)
    assert job_state(folder) == ("waiting", None)

    assert _state_at_the_end() == ("ended", 0)


def test_a_job_that_was_stopped_before_it_began_ends_at_once(cache):
    folder = remote_job.create_job(replace(JOB, words=("run", "--help")))
    remote_job.stop_job(folder)

    claim = remote_job.claim_job(folder)
    assert claim is not None
    remote_job.run_job(folder, claim)
    os.close(claim)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # as it was

    state, status = job_state(folder)
    assert (state, status) == ("ended", 130)
    assert (folder / "stderr").read_text() == "Interrupted: nothing was left half written.\n"


def test_a_job_that_could_not_run_says_why(cache):
    folder = remote_job.create_job(JOB)
    shutil.rmtree(folder / "files")  # the folder to run it in is gone

    remote_job.start_job(folder)

    assert _state_at_the_end() == ("lost", None)
    assert "No such file or directory" in remote_job.last_words(folder)


def test_requests_that_make_no_sense_are_answered(cache):
    for request in ({"do": "nonsense"}, {}, {"do": "stop", "job": "../../etc"}):
        answer, _ = remote_board._answer(dict(request), b"")

        assert set(answer) == {"error"}


def test_the_board_serves_until_the_pipe_ends(cache):
    with subprocess.Popen(
        [sys.executable, "-m", "bacmac.cli", "remote", "board"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as board:
        assert board.stdin is not None
        assert board.stdout is not None
        assert board.stdout.read(len(GREETING)) == GREETING
        assert receive_frame(board.stdout.fileno(), 10.0)[0] == installed()
        send_frame(board.stdin.fileno(), {"do": "jobs"})
        assert receive_frame(board.stdout.fileno(), 10.0)[0] == {"jobs": []}
        board.stdin.close()

        assert board.wait(10) == 0


def test_a_board_can_put_files_only_where_they_were_asked_for(tmp_path):
    outputs = ["/me/result.npz"]

    assert _target("/me/result.npz", outputs, [], None) == Path("/me/result.npz")
    assert _target("/me/result.npz.json", outputs, [], None) == Path("/me/result.npz.json")
    for path in ("/me/.bashrc", "/me/result.npz/../../x", "me/result.npz", "/me/result.npzz"):
        assert _target(path, outputs, [path], None) is None
    assert _target("/etc/x/../passwd", [], ["/etc/x"], tmp_path) is None
    assert _target("/etc/x.json", [], ["/etc/x"], tmp_path) == tmp_path / "x.json"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The plan of `bacmac outer do WORDS`, typed in a folder with one file, `model`."""
    (tmp_path / "model").write_text("m")
    monkeypatch.chdir(tmp_path)
    plans: list[Plan] = []

    class Planned(DeviceCommand):
        def invoke(self, ctx: click.Context) -> None:
            plans.append(make_plan(ctx, ctx.meta["bacmac.cli.remote_command"]))

    @click.command(cls=Planned)
    @click.argument("model", type=FILE)
    @click.option("-o", "--output", type=OUTPUT, default=Path("out"))
    @click.option("--overlay", type=OVERLAY)
    @click.option("--device", default="functional:")
    @click.option("--rails", "rails_word", default="emulated:")
    @click.option("--tag", multiple=True)
    @click.option("--n", type=int, default=3, callback=lambda *given: (given[-1], "converted"))
    @click.option("--fast/--slow", default=True)
    @click.option("-v", "--verbose", is_flag=True)
    def do(**_: object) -> None: ...

    outer = click.Group("outer", commands={"do": do})
    program = click.Group("bacmac", commands={"outer": outer})

    def make(*words: str) -> Plan:
        program.main(["outer", "do", *words], standalone_mode=False)
        return plans.pop()

    return make


def test_a_plan_says_the_words_again_with_the_boards_device(plan, tmp_path):
    found = plan(
        *("model", "--n=7", "--slow", "-v", "--tag", "a b", "--tag=-c", "--device", "ssh://me@b")
    )

    assert found.address == "ssh://me@b/pynq:"
    assert found.words == (
        *("outer", "do", "--n", "7", "--slow", "--verbose", "--tag", "a b", "--tag", "-c"),
        *("--device", "pynq:", "--", "model"),
    )
    assert found.inputs == ((Path("model"), str(tmp_path / "model")),)
    assert found.outputs == (str(tmp_path / "out"),)
    assert found.folders == (found.cwd,) == (str(tmp_path),)


def test_a_plan_makes_paths_relative(plan, tmp_path):
    (tmp_path / "elsewhere").mkdir()

    found = plan(
        *(str(tmp_path / "model"), "-o", str(tmp_path / "elsewhere" / "x"), "--rails", "ssh://b")
    )

    assert found.words == (
        "outer",
        "do",
        "--output",
        "elsewhere/x",
        "--rails",
        "hwmon:",
        "--",
        "model",
    )
    assert found.folders == (str(tmp_path / "elsewhere"),)


def test_an_overlay_that_is_named_is_looked_for_on_the_board(plan):
    found = plan("model", "--overlay", "bac-pot4", "--device", "ssh://b")

    assert "bac-pot4" in found.words
    assert len(found.inputs) == 1


def test_of_an_overlays_folder_only_its_files_go_along(plan, tmp_path):
    folder = tmp_path / "overlays"
    (folder / "regmaps").mkdir(parents=True)
    for name in ("mine.toml", "mine.bit", "huge.npz", "regmaps/map.toml", "regmaps/notes.txt"):
        (folder / name).write_text(name)

    found = plan("model", "--overlay", "overlays/mine.toml", "--device", "ssh://b")

    assert {str(path) for path, _ in found.inputs} == {
        *("overlays/mine.toml", "overlays/mine.bit", "overlays/regmaps/map.toml", "model")
    }


def test_progress_goes_to_a_file_where_another_process_draws_it(tmp_path, monkeypatch):
    file = tmp_path / "progress"
    monkeypatch.setenv("BACMAC_PROGRESS", str(file))

    with output.progress() as advance:
        advance("images", 1, 10)
        early = json.loads(file.read_text())
        advance("images", 10, 10)

    assert early == {"images": [1, 10]}
    assert json.loads(file.read_text()) == {"images": [10, 10]}


def test_a_table_for_a_terminal_elsewhere_has_its_width(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")

    output.print_table(["what", "found"], [("x", "word " * 40)], prose=(1,))

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60
