"""`--device ssh://...` against a real sshd on loopback, with keys and settings of its own."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bacmac.cli import output, remote_link, remote_run
from bacmac.cli.remote_job import job_state

GATE = """
import os, signal, sys, time
gate = os.environ.get("TEST_GATE", "")
if gate and os.path.exists(gate) and "bacmac.cli" in sys.orig_argv:
    with open(gate + ".runs", "a") as runs:
        print(os.getpid(), file=runs)
    deadline = time.monotonic() + 60
    while os.path.exists(gate) and not signal.sigpending() and time.monotonic() < deadline:
        time.sleep(0.02)
"""
"""sitecustomize.py on the board: while the gate exists, a job's command waits before it begins.

A SIGINT, which is held back until bacmac can answer it, opens the gate too.
"""


@dataclass(frozen=True)
class Board:
    """A board, played by this machine.

    Attributes:
        address: ssh://user@127.0.0.1:port/functional:
        cache: its BACMAC_CACHE.
        gate: while this file exists, jobs wait before their first step.
        sshd: the server's process.
        environment: what the user's shell must say to reach it.
    """

    address: str
    cache: Path
    gate: Path
    sshd: subprocess.Popen[bytes]
    environment: dict[str, str]

    @property
    def runs(self) -> int:
        """How many commands came to the gate."""
        return len(Path(f"{self.gate}.runs").read_text().splitlines())

    def job(self) -> Path:
        """The folder of the only job."""
        (found,) = (self.cache / "jobs").glob("*/job.json")
        return found.parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(what: Callable[[], object], deadline_s: float = 30.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An sshd that the test starts as the user that runs it; ended with the module."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert sshd is not None, "this test starts an sshd: install openssh-server"
    if os.getuid() == 0:  # where sshd's unprivileged half lives; its package makes it at boot
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path_factory.mktemp("sshd")
    site, cache, gate, port = folder / "site", folder / "cache", folder / "gate", _free_port()
    site.mkdir()
    (site / "sitecustomize.py").write_text(GATE)
    for key in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True
        )
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv BACMAC_CACHE={cache} TEST_GATE={gate} PYTHONPATH={site}\n"
    )
    (folder / "config").write_text(
        f"Host *\n  IdentityFile {folder}/user_key\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile none\n"
    )
    process = subprocess.Popen(
        [sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(lambda: _answers(port))
        yield Board(
            f"ssh://{getpass.getuser()}@127.0.0.1:{port}/functional:",
            cache,
            gate,
            process,
            {
                "BACMAC_SSH": f"ssh -F {folder}/config",
                "BACMAC_REMOTE": shlex.quote(str(Path(sys.executable).with_name("bacmac"))),
                "BACMAC_CACHE": str(folder / "cache-here"),
            },
        )
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def board(server: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """The board without any jobs, and this process's environment set to reach it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.gate.unlink(missing_ok=True)
    if (server.cache / "jobs").is_dir():
        _wait_for(lambda: all(map(_is_over, (server.cache / "jobs").iterdir())))
    for folder in (server.cache, Path(server.environment["BACMAC_CACHE"])):
        shutil.rmtree(folder, ignore_errors=True)
    Path(f"{server.gate}.runs").unlink(missing_ok=True)


def _is_over(job: Path) -> bool:
    return job_state(job)[0] not in ("running", "waiting")


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in tasks.split()]


def _sessions(sshd: int) -> list[int]:
    """The processes of sshd that serve its connections: one each, or two where it is not root."""
    found = []
    for child in _children(sshd):
        if Path(f"/proc/{child}/comm").read_text().startswith("sshd"):
            found += [child, *_sessions(child)]
    return found


@contextmanager
def _started(*words: object) -> Iterator[subprocess.Popen[str]]:
    """`bacmac WORDS` in a process of its own, as in a terminal of its own."""
    bacmac = Path(sys.executable).with_name("bacmac")
    with subprocess.Popen(
        [bacmac, *map(str, words)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for_gate(board: Board, here: subprocess.Popen[str] | None = None) -> None:
    def arrived() -> bool:
        assert here is None or here.poll() is None, here.stderr and here.stderr.read()
        return Path(f"{board.gate}.runs").exists()

    _wait_for(arrived)


@pytest.fixture
def words(bac_file, test_images, tmp_path) -> tuple[object, ...]:
    """A run of a moment that prints JSON and writes there.npz."""
    output = tmp_path / "there.npz"
    return ("run", bac_file, "--images", test_images, "--limit", 20, "--json", "-o", output)


@pytest.fixture
def expected(run, words, tmp_path) -> tuple[object, bytes]:
    """What the run prints and writes on this machine."""
    outcome = run(*words)
    written = (tmp_path / "there.npz").read_bytes()
    (tmp_path / "there.npz").unlink()
    return json.loads(outcome.out), written


def test_a_run_there_prints_and_writes_what_a_run_here_does(board, run, words, expected, tmp_path):
    outcome = run(*words, "--device", board.address)

    assert outcome.status == 0, outcome.err
    assert (json.loads(outcome.out), (tmp_path / "there.npz").read_bytes()) == expected
    assert f"job {board.job().name}" in outcome.err
    assert str(tmp_path / "there.npz") not in outcome.out


def test_nobody_else_can_look_into_a_job(board, run, words):
    run(*words, "--device", board.address)

    for folder in (board.cache / "jobs", board.cache / "blobs"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_what_was_sent_before_is_not_sent_again(board, run, words, monkeypatch):
    sent = []
    send = remote_link.send_frame
    monkeypatch.setattr(
        remote_link,
        "send_frame",
        lambda pipe, message, body=b"": (sent.append(len(body)), send(pipe, message, body))[1],
    )
    run(*words, "--device", board.address)
    first = sum(sent)
    sent.clear()

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 0
    assert first == sum(Path(str(words[i])).stat().st_size for i in (1, 3))
    assert sum(sent) == 0


def test_verify_and_its_remarks_come_from_there(board, run, bac_file, test_images):
    outcome = run(
        "verify", bac_file, "--images", test_images, "--limit", 5, "--device", board.address
    )

    assert outcome.status == 0, outcome.err
    assert "5 images are equal on functional: and reference:" in outcome.out


def test_compare_writes_what_it_writes_here(
    board, run, bac_file, mac_file, test_images, tmp_path, monkeypatch
):
    words = ("compare", "--bac", bac_file, "--mac", mac_file, "--images", test_images)
    words = (*words, "--limit", 8, "--blocks", 2, "--run-seconds", 5, "--idle-seconds", 2)
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    monkeypatch.chdir(here)
    local = run(*words, "--no-report")
    monkeypatch.chdir(there)

    outcome = run(*words, "--no-report", "--device", board.address)

    assert outcome.status == local.status == 0, outcome.err
    assert outcome.out == local.out
    assert [path.name for path in there.iterdir()] == ["comparison.json"]
    found, wanted = (json.loads((d / "comparison.json").read_text()) for d in (there, here))
    assert found.keys() == wanted.keys()
    assert found["headline"] == wanted["headline"]


def test_rails_of_a_board_are_recorded_there(board, run, tmp_path):
    address = board.address.replace("functional:", "emulated:")

    outcome = run(
        "power", "record", "--rails", address, "--seconds", 1, "-o", tmp_path / "t.csv", "--json"
    )

    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["emulated"] is True
    assert (tmp_path / "t.csv").stat().st_size > 1000


def test_names_of_files_may_hold_anything(board, run, bac_file, test_images, tmp_path, monkeypatch):
    odd = tmp_path / 'it\'s "my" $HOME; `id`'
    (odd / "-deep").mkdir(parents=True)
    model = odd / "-a \\ model\n*.safetensors"
    shutil.copy(bac_file, model)
    shutil.copy(test_images, odd / "-deep" / "images !#.npz")
    monkeypatch.chdir(odd / "-deep")

    outcome = run(
        "run",
        "--images=images !#.npz",
        "--limit=5",
        "-o",
        "../out 'put'.npz",
        f"--device={board.address}",
        "--",
        f"../{model.name}",
    )

    assert outcome.status == 0, outcome.err
    assert (odd / "out 'put'.npz").is_file()
    assert "../out 'put'.npz: 5 rows" in outcome.err


def test_a_layer_list_takes_its_weights_along(board, run, example_dir, test_images):
    words = ("run", example_dir / "digits_cnn.json", "--images", test_images, "--json")
    here = run(*words)

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out) == json.loads(here.out)


def test_an_overlay_of_ones_own_goes_along(board, run, bac_file, test_images, tmp_path):
    shipped = Path(__file__).parents[2] / "overlays" / "manifests" / "bac-pot4.toml"
    mine = tmp_path / "overlays" / "mine.toml"
    mine.parent.mkdir()
    text = shipped.read_text().replace('name = "bac-pot4"', 'name = "mine"')
    mine.write_text(text.replace("bac-pot4.bit", "mine.bit").replace("bac-pot4.hwh", "mine.hwh"))
    words = ("run", bac_file, "--images", test_images, "--limit", 2, "--json")

    by_path = run(*words, "--overlay", mine, "--device", board.address)
    by_name = run(
        *words, "--overlay", "mine", "--overlay-folder", mine.parent, "--device", board.address
    )

    for outcome in (by_path, by_name):
        assert outcome.status == 0, outcome.err
        assert json.loads(outcome.out)["overlay"] == "mine"


def test_an_error_there_is_the_error_and_the_status_here(board, run, test_images, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no model")

    outcome = run("run", broken, "--images", test_images, "--device", board.address)

    assert outcome.status == 2
    assert "Error: " in outcome.err
    assert "broken.safetensors: file: found 8 bytes" in outcome.err
    assert "Traceback" not in outcome.err


def test_the_device_is_asked_for_by_the_word_after_the_board(board, run, words):
    outcome = run(*words, "--device", board.address.replace("functional:", "nonsense:"))

    assert outcome.status == 2
    assert "nonsense:" in outcome.err


def test_an_input_that_is_not_here_is_told_before_anything_is_sent(run, tmp_path):
    outcome = run(
        "run", tmp_path / "no.npz", "--images", __file__, "--device", "ssh://nowhere.invalid"
    )

    assert outcome.status == 2
    assert "no.npz: model: found no such file on this machine" in outcome.err


def test_an_output_that_cannot_be_written_is_told_before_the_work(run, bac_file, test_images):
    outcome = run(
        "run",
        bac_file,
        "--images",
        test_images,
        "-o",
        "/no/such/folder.npz",
        "--device",
        "ssh://nowhere.invalid",
    )

    assert outcome.status == 2
    assert "/no/such/folder.npz: cannot be written" in outcome.err


def test_one_command_has_one_board(run, bac_file, mac_file, test_images):
    outcome = run(
        *("compare", "--bac", bac_file, "--mac", mac_file, "--images", test_images),
        *("--device", "ssh://one", "--rails", "ssh://two/hwmon:"),
    )

    assert outcome.status == 2
    assert "found one and two; expected one board" in outcome.err


def test_another_bacmac_there_is_refused_with_both_named(board, run, words, monkeypatch):
    mine = {"version": "9.9.9", "code": "c0ffee"}
    monkeypatch.setattr(remote_link, "installed", lambda: mine)

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 2
    assert "expected version 9.9.9, code c0ffee" in outcome.err
    assert "found version 0." in outcome.err
    assert "pip wheel --no-deps" in outcome.err
    assert "scp -P" in outcome.err
    assert not (board.cache / "jobs").exists()


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_jobs_are_looked_after_by_another_bacmac_too(board, run, words, monkeypatch):
    run(*words, "--device", board.address)
    monkeypatch.setattr(remote_link, "installed", lambda: {"version": "9.9.9", "code": "c0ffee"})

    outcome = run("remote", "fetch", board.address, board.job().name)

    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["images"] == 20


def test_a_bacmac_too_old_to_serve_is_named(board, run, words, tmp_path, monkeypatch):
    old = 'if [ "$1" = remote ]; then exit 2; fi; echo "bacmac, version 0.0.9"'
    monkeypatch.setenv("BACMAC_REMOTE", _script(tmp_path / "old", old))

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 2
    assert "found version 0.0.9" in outcome.err


def test_no_bacmac_there_is_said_with_what_was_tried(board, run, words, monkeypatch):
    monkeypatch.setenv("BACMAC_REMOTE", "/no/such/bacmac")

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 2
    assert "no bacmac there: BACMAC_REMOTE is '/no/such/bacmac'" in outcome.err


def test_a_bacmac_that_does_not_start_says_why(board, run, words, tmp_path, monkeypatch):
    monkeypatch.setenv(
        "BACMAC_REMOTE",
        _script(tmp_path / "bad", "echo ModuleNotFoundError: No module named click >&2; exit 1"),
    )

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 2
    assert "No module named click" in outcome.err


def test_what_a_login_script_prints_does_no_harm(board, run, words, tmp_path, monkeypatch):
    real = board.environment["BACMAC_REMOTE"]
    monkeypatch.setenv(
        "BACMAC_REMOTE", _script(tmp_path / "noisy", f'echo Welcome to PYNQ; exec {real} "$@"')
    )

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 0, outcome.err
    assert "Welcome" not in outcome.out


def test_a_host_that_does_not_exist_is_said(board, run, words):
    outcome = run(*words, "--device", "ssh://me@nowhere.invalid")

    assert outcome.status == 2
    assert "me@nowhere.invalid: Could not resolve hostname" in outcome.err
    assert "check the name" in outcome.err


def test_a_port_where_nobody_listens_is_said(board, run, words):
    outcome = run(*words, "--device", f"ssh://127.0.0.1:{_free_port()}")

    assert outcome.status == 2
    assert "Connection refused" in outcome.err
    assert "has the board booted" in outcome.err


def test_a_key_that_is_not_accepted_is_said_and_no_password_asked(board, run, words, monkeypatch):
    monkeypatch.setenv("BACMAC_SSH", f"{board.environment['BACMAC_SSH']} -i /dev/null")
    monkeypatch.setenv(
        "BACMAC_SSH", board.environment["BACMAC_SSH"] + " -o PubkeyAuthentication=no"
    )

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 2
    assert "Permission denied" in outcome.err
    assert "ssh-copy-id" in outcome.err


@pytest.mark.parametrize(("known", "advice"), [("changed", "ssh-keygen -R"), ("new", "by hand")])
def test_a_host_key_that_is_not_the_known_one_is_said(
    board, run, words, tmp_path, monkeypatch, known, advice
):
    file = tmp_path / "known_hosts"
    port = board.address.split(":")[2].split("/")[0]
    key = (Path(board.environment["BACMAC_SSH"].split()[-1]).parent / "user_key.pub").read_text()
    file.write_text(f"[127.0.0.1]:{port} {key}" if known == "changed" else "")
    monkeypatch.setenv(
        "BACMAC_SSH", f"{board.environment['BACMAC_SSH']} -o UserKnownHostsFile={file}"
    )

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 2
    assert "Host key verification failed" in outcome.err
    assert advice in outcome.err


def test_no_ssh_here_is_said(board, run, words, monkeypatch):
    monkeypatch.setenv("BACMAC_SSH", "/no/such/ssh")

    outcome = run(*words, "--device", board.address)

    assert outcome.status == 2
    assert "/no/such/ssh: No such file or directory" in outcome.err


@pytest.mark.parametrize("killed", ["the client", "the session"])
def test_a_link_that_breaks_in_the_middle_costs_nothing(board, words, expected, tmp_path, killed):
    board.gate.touch()
    with _started(*words, "--device", board.address) as here:
        _wait_for_gate(board, here)
        victims = _children(here.pid) if killed == "the client" else _sessions(board.sshd.pid)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        _wait_for(lambda: set(_sessions(board.sshd.pid)) - set(victims))
        board.gate.unlink()
        out, err = here.communicate(timeout=60)

    assert here.returncode == 0, err
    assert (json.loads(out), (tmp_path / "there.npz").read_bytes()) == expected
    assert "link lost" in err
    assert "the link stands again" in err
    assert board.runs == 1


def test_a_killed_command_leaves_a_job_that_is_fetched_later(board, run, words, expected, tmp_path):
    board.gate.touch()
    with _started(*words, "--device", board.address) as here:
        _wait_for_gate(board, here)
        here.kill()
        here.wait()
    listed = json.loads(run("remote", "list", board.address, "--json").out)
    board.gate.unlink()

    outcome = run("remote", "fetch", board.address, board.job().name)

    assert [job["state"] for job in listed] == ["running"]
    assert outcome.status == 0, outcome.err
    assert (json.loads(outcome.out), (tmp_path / "there.npz").read_bytes()) == expected
    assert board.runs == 1


def test_ctrl_c_here_interrupts_the_job_there(board, words, tmp_path):
    board.gate.touch()
    with _started(*words, "--device", board.address) as here:
        _wait_for_gate(board, here)
        here.send_signal(signal.SIGINT)
        _, err = here.communicate(timeout=60)

    assert here.returncode == 130, err
    assert f"Interrupting job {board.job().name}" in err
    assert err.endswith("Interrupted: nothing was left half written.\n")
    assert job_state(board.job()) == ("ended", 130)
    assert not (tmp_path / "there.npz").exists()


def test_a_board_that_stays_away_is_given_up_and_the_job_named(
    board, run, words, expected, tmp_path, monkeypatch
):
    ssh = board.environment["BACMAC_SSH"]
    down = tmp_path / "down"
    flaky = f"if [ -e {down} ]; then echo ssh: No route to host >&2; exit 255; fi; exec {ssh}"
    monkeypatch.setenv("BACMAC_SSH", _script(tmp_path / "flaky", f'{flaky} "$@"'))
    monkeypatch.setattr(remote_link, "RECONNECT_S", 0.6)
    send = remote_link.send_frame

    def cut(pipe: int, message: dict[str, object], body: bytes = b"") -> None:
        send(pipe, message, body)
        if message["do"] == "watch" and not down.exists():
            _wait_for_gate(board)
            down.touch()
            for session in _sessions(board.sshd.pid):
                os.kill(session, signal.SIGKILL)

    monkeypatch.setattr(remote_link, "send_frame", cut)
    board.gate.touch()
    outcome = run(*words, "--device", board.address)
    monkeypatch.setattr(remote_link, "send_frame", send)
    down.unlink()
    board.gate.unlink()

    fetched = run("remote", "fetch", board.address, board.job().name)

    assert outcome.status == 2
    assert "no link for 1 s (ssh: No route to host)" in outcome.err
    assert f"bacmac remote fetch {board.address} {board.job().name}" in outcome.err
    assert fetched.status == 0, fetched.err
    assert (json.loads(fetched.out), (tmp_path / "there.npz").read_bytes()) == expected
    assert board.runs == 1


def test_a_job_that_vanished_is_not_waited_for(board, words):
    board.gate.touch()
    with _started(*words, "--device", board.address) as here:
        _wait_for_gate(board, here)
        command = int((board.job() / "pid").read_text())
        runner = int(Path(f"/proc/{command}/stat").read_text().rpartition(")")[2].split()[1])
        for process in (runner, command):
            os.kill(process, signal.SIGKILL)
        _, err = here.communicate(timeout=60)

    assert here.returncode == 2
    assert "gone without an exit status" in err


def test_jobs_are_listed_stopped_fetched_elsewhere_and_cleaned(board, run, words, tmp_path):
    run(*words, "--device", board.address)
    name = board.job().name
    shutil.rmtree(board.environment["BACMAC_CACHE"])  # as on a machine that did not start it

    table = run("remote", "list", board.address)
    nowhere = run("remote", "fetch", board.address, name)
    fetched = run("remote", "fetch", board.address, name, "-o", tmp_path / "elsewhere")
    kept = run("remote", "clean", board.address)
    run("remote", "stop", board.address, name)
    cleaned = run("remote", "clean", board.address, "--days", 0)
    gone = run("remote", "stop", board.address, name)
    empty = run("remote", "list", board.address)

    assert name in table.out
    assert "ended" in table.out
    assert nowhere.status == 2
    assert "did not start; expected --output FOLDER" in nowhere.err
    assert fetched.status == 0
    assert (tmp_path / "elsewhere" / "there.npz").is_file()
    assert "0 jobs removed" in kept.err
    assert "1 job removed" in cleaned.err
    assert gone.status == 2
    assert f"no job {name!r}" in gone.err
    assert "No jobs there" in empty.err


def test_a_running_job_is_stopped_from_elsewhere(board, run, words):
    board.gate.touch()
    with _started(*words, "--device", board.address) as here:
        _wait_for_gate(board, here)
        stopped = run("remote", "stop", board.address, board.job().name)
        here.communicate(timeout=60)

    assert stopped.status == 0
    assert here.returncode == 130


def test_progress_there_is_drawn_here(board, run, bac_file, test_images, monkeypatch):
    drawn = []

    @contextmanager
    def draw() -> Iterator[output.Advance]:
        yield lambda *what: drawn.append(what)

    monkeypatch.setattr(remote_run, "progress", draw)

    run("run", bac_file, "--images", test_images, "--device", board.address)

    assert any(done == total == 500 for _, done, total in drawn)
