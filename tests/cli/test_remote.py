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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bacmac.cli import remote_link, remote_protocol

GATE = """
import os, signal, sys, time
gate = os.environ.get("TEST_GATE", "")
if gate and os.path.exists(gate) and "bacmac.cli" in sys.orig_argv:
    with open(gate + ".runs", "a") as runs:
        print(os.getpid(), file=runs)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    deadline = time.monotonic() + 60
    while os.path.exists(gate) and time.monotonic() < deadline:
        time.sleep(0.02)
    signal.signal(signal.SIGINT, signal.default_int_handler)
"""
"""sitecustomize.py on the board: while the gate exists, a job's command waits before it begins."""


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
    return (job / "status").exists() or not (job / "claim").exists()


def test_a_run_there_prints_and_writes_what_a_run_here_does(
    board, run, bac_file, test_images, tmp_path
):
    words = ("run", bac_file, "--images", test_images, "--limit", 20, "--json", "-o")
    here = run(*words, tmp_path / "here.npz")

    there = run(*words, tmp_path / "there.npz", "--device", board.address)

    assert there.status == 0, there.err
    assert json.loads(there.out) == json.loads(here.out)
    assert (tmp_path / "there.npz").read_bytes() == (tmp_path / "here.npz").read_bytes()
    assert f"job {board.job().name}" in there.err
