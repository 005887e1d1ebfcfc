"""The link to a board: the user's own `ssh`, and a new one when it breaks."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from bacmac.cli.remote_protocol import (
    GREETING,
    NOISE_BYTES,
    LinkLostError,
    Message,
    installed,
    receive_bytes,
    receive_frame,
    send_frame,
)
from bacmac.host.errors import DeviceError, InputError, MismatchError

CONNECT_S = 15
"""How long `ssh` may try to reach the board (its ConnectTimeout)."""
GREETING_S = 90.0
"""How long the login and Python's start may take: an A53 with a slow SD card is slow."""
ANSWER_S = 60.0
"""How long the board may be silent on a link that stands."""
RECONNECT_S = 600.0
"""For how long a lost link is tried again."""
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Between the trials; the last one repeats."""

BOARD_PROGRAMS = ("bacmac", "$HOME/.local/bin/bacmac", "/usr/local/share/pynq-venv/bin/bacmac")
"""Where bacmac is looked for on a board. `ssh` runs no login shell, so PYNQ's venv, which
/etc/profile.d/pynq_venv.sh would activate, is not on the PATH."""
XRT_PROFILE = "/etc/profile.d/xrt_setup.sh"
"""Sets XILINX_XRT, without which PYNQ finds no device (its issue 1651); for login shells only."""

NOT_ROOT = "bacmac-board: not root"
MISSING = "bacmac-board: missing"
"""What the shell on the board says in place of the greeting."""

OPTIONS = (
    "-T",  # no terminal: it would change line ends
    "-x",
    "-oBatchMode=yes",  # never ask for a password
    f"-oConnectTimeout={CONNECT_S}",
    "-oServerAliveInterval=5",  # a dead link is noticed in 15 s
    "-oServerAliveCountMax=3",
    "-oClearAllForwardings=yes",
    "-oRemoteCommand=none",
)

ADVICE = (
    ("could not resolve", "check the name, or give it a HostName in ~/.ssh/config"),
    ("connection refused", "nothing listens there: has the board booted, is it the right port"),
    ("identification has changed", "if the board's SD card was rewritten: ssh-keygen -R {host}"),
    ("host key verification failed", "log in once by hand, `ssh {where}`, and accept the host key"),
    ("permission denied", "no password is asked for: `ssh-copy-id {where}`, and ssh-add the key"),
    ("timed out", "is the board on, and its cable in"),
    ("no route to host", "is the board on, and its cable in"),
)
"""What to do, by what `ssh` says; the first that fits."""


@dataclass(frozen=True)
class Address:
    """A board at the other end of `ssh`.

    Attributes:
        destination: `user@host`, or `host`, as `ssh` takes it.
        port: None for what the user's configuration says.
        word: the device word on the board.
    """

    destination: str
    port: int | None
    word: str

    def __str__(self) -> str:
        user, at, host = self.destination.rpartition("@")
        host = f"[{host}]" if ":" in host else host
        port = "" if self.port is None else f":{self.port}"
        return f"ssh://{user}{at}{host}{port}/{self.word}"

    @property
    def needs_root(self) -> bool:
        """PYNQ programs the device as root only; emulated, it runs as anybody."""
        return self.word.startswith("pynq:") and not self.word.startswith("pynq:emulated")


def parse_address(text: str, default_word: str = "pynq:") -> Address:
    """Read ssh://[user@]host[:port][/WORD].

    Raises:
        InputError: it is none.

    >>> parse_address("ssh://me@zcu104")
    Address(destination='me@zcu104', port=None, word='pynq:')
    """
    found = re.fullmatch(
        r"ssh://((?:[\w.][\w.+-]*@)?(?:[\w.][\w.-]*|\[[0-9A-Fa-f:.]+\]))(?::([0-9]{1,5}))?(?:/(.*))?",
        text,
    )
    if found is None or not 0 < int(found[2] or 22) < 65536:
        raise InputError(
            "--device", "address", found=repr(text), expected="ssh://[user@]board[:port][/WORD]"
        )
    destination = found[1].replace("[", "").replace("]", "")
    return Address(destination, int(found[2]) if found[2] else None, found[3] or default_word)


class Link:
    """Requests to a board over a connection that is made again when it breaks.

    Args:
        address: which board.
        tell: told when the link is lost and when it stands again.
        any_version: do without the check that the board has the same bacmac; to look after jobs
            that run already, it is enough that both ends speak this protocol.
    """

    def __init__(
        self, address: Address, tell: Callable[[str], None], *, any_version: bool = False
    ) -> None:
        self.address = address
        self.if_lost = ""
        """What to do when the link is given up; part of the error then."""
        self._tell = tell
        self._ssh: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._said = ""
        self._status: int | None = None
        self._stood = False
        self._any_version = any_version
        self._here = installed()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *error: object) -> None:
        self.hang_up()

    def call(self, do: str, body: bytes = b"", **fields: object) -> tuple[Message, bytes]:
        """Ask the board for something; as often as it takes for the answer to arrive.

        Raises:
            DeviceError: the board cannot be reached, or refuses.
            MismatchError: another bacmac is installed there.
        """
        lost_s = 0.0
        trials = 0
        while True:
            try:
                answer, data = self._ask({"do": do, **fields}, body)
            except LinkLostError as error:
                reason = self._last_line() or str(error)
                self.hang_up()
                if not self._stood:
                    raise DeviceError(self._advise(reason)) from error
                if self._status == 1:  # a traceback: it would only come again
                    raise DeviceError(
                        f"{self.address.destination}: bacmac failed there: {reason}{self.if_lost}"
                    ) from error
                if not trials:
                    lost_s = time.monotonic()
                    self._tell(f"{self.address.destination}: link lost ({reason}); trying again")
                if time.monotonic() - lost_s > RECONNECT_S:
                    raise DeviceError(
                        f"{self.address.destination}: no link for {RECONNECT_S:.0f} s ({reason})"
                        f"{self.if_lost}"
                    ) from error
                time.sleep(PAUSES_S[min(trials, len(PAUSES_S) - 1)])
                trials += 1
            except BaseException:
                self.hang_up()  # half of an answer may be in the pipe
                raise
            else:
                if trials:
                    self._tell(f"{self.address.destination}: the link stands again")
                if "error" in answer:
                    raise DeviceError(f"{self.address.destination}: {answer['error']}")
                return answer, data

    def hang_up(self) -> None:
        """End the connection; what runs on the board goes on."""
        if self._ssh is None:
            return
        ssh, self._ssh = self._ssh, None
        for pipe in (ssh.stdin, ssh.stdout):
            if pipe is not None:
                pipe.close()
        try:
            ssh.wait(1)
        except subprocess.TimeoutExpired:
            ssh.kill()
            ssh.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _ask(self, request: Message, body: bytes) -> tuple[Message, bytes]:
        if self._ssh is None:
            self._connect()
        assert self._ssh is not None
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        send_frame(self._ssh.stdin.fileno(), request, body)
        return receive_frame(self._ssh.stdout.fileno(), ANSWER_S)

    def _connect(self) -> None:
        ssh = shlex.split(os.environ.get("BACMAC_SSH", "ssh"))
        port = [] if self.address.port is None else ["-p", str(self.address.port)]
        words = [
            *ssh,
            *OPTIONS,
            *port,
            "--",
            self.address.destination,
            _board_command(self.address),
        ]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as ssh
        try:
            self._ssh = subprocess.Popen(
                words,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for this process, which then tells the board
            )
        except OSError as error:
            self._errors.close()
            raise DeviceError(f"{words[0]}: {error.strerror}: install OpenSSH's client") from error
        assert self._ssh.stdout is not None
        pipe = self._ssh.stdout.fileno()
        deadline = time.monotonic() + GREETING_S
        heard = bytearray()
        try:
            while not heard.endswith(GREETING):
                heard += receive_bytes(pipe, 1, deadline)
                if len(heard) > NOISE_BYTES:
                    raise LinkLostError("a login script there prints without end")
            there, _ = receive_frame(pipe, ANSWER_S)
        except LinkLostError as error:
            reason = self._last_line() or str(error)
            self._refuse(heard.decode(errors="replace"))
            raise LinkLostError(reason) from error
        if there != self._here and not (self._any_version or self._stood):
            raise self._mismatch(f"version {there.get('version')}, code {there.get('code')}")
        self._stood = True

    def _refuse(self, heard: str) -> None:
        """Raise what the shell on the board said in place of a greeting, if it said something."""
        where = self.address.destination
        if NOT_ROOT in heard:
            raise DeviceError(
                f"{where}: PYNQ needs root there, and sudo does not give it without a password: "
                "log in as root, or allow it: "
                "`echo 'xilinx ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/bacmac`"
            )
        if MISSING in heard:
            raise DeviceError(
                f"{where}: no bacmac there, tried {', '.join(BOARD_PROGRAMS)} "
                f"({self._installation(upgrade=False)}; or say in BACMAC_REMOTE how it is called)"
            )
        if (command := os.environ.get("BACMAC_REMOTE")) and "not found" in self._said:
            raise DeviceError(f"{where}: no bacmac there: BACMAC_REMOTE is {command!r}")
        if version := re.search(r"bacmac, version (\S+)", heard):
            raise self._mismatch(f"version {version[1]}, which cannot serve")

    def _mismatch(self, found: str) -> MismatchError:
        return MismatchError(
            self.address.destination,
            "bacmac there",
            found=found,
            expected=f"version {self._here['version']}, code {self._here['code']}",
            hint=self._installation(upgrade=True),
        )

    def _installation(self, *, upgrade: bool) -> str:
        """The commands that put this bacmac on the board."""
        where, wheel = self.address.destination, f"bacmac-{self._here['version']}-py3-none-any.whl"
        port = "" if self.address.port is None else f"-P {self.address.port} "
        options = "--force-reinstall --no-deps " if upgrade else ""
        return (
            f"here `pip wheel --no-deps -w dist . && scp {port}dist/{wheel} {where}:`, there "
            f"`sudo /usr/local/share/pynq-venv/bin/pip install {options}{wheel}`"
        )

    def _advise(self, reason: str) -> str:
        """The reason why a first connection failed, and what to do."""
        where = self.address.destination
        host = where.rpartition("@")[2]
        said = self._said.lower()
        advice = next((text for part, text in ADVICE if part in said), "try `ssh {where}` by hand")
        if self.address.port is not None:
            where = f"-p {self.address.port} {where}"
        advice = advice.format(host=host, where=where)
        return f"{self.address.destination}: {reason.removeprefix('ssh: ')} ({advice})"

    def _last_line(self) -> str:
        """The last line that `ssh` printed; all of it, and its exit status, are kept."""
        self._status = None
        if self._ssh is None or self._errors is None:
            return ""
        try:
            self._status = self._ssh.wait(2)
        except subprocess.TimeoutExpired:
            return ""
        self._errors.seek(0)
        self._said = self._errors.read().decode(errors="replace")
        lines = [line.strip() for line in self._said.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def _board_command(address: Address) -> str:
    """What `ssh` is to run: a POSIX shell that finds bacmac, as root where PYNQ wants it.

    No single quote, backslash or exclamation mark is in it, so that any login shell passes it on.
    """
    if command := os.environ.get("BACMAC_REMOTE"):
        return f"sh -c {shlex.quote(_serve(command))}"
    programs = " ".join(f'"{program}"' for program in BOARD_PROGRAMS)
    script = (
        f"x=$(if [ -r {XRT_PROFILE} ]; then . {XRT_PROFILE}; fi >/dev/null 2>&1; "
        'echo "$XILINX_XRT"); if [ -n "$x" ]; then export XILINX_XRT="$x"; fi; r=; '
    )
    if address.needs_root:
        script += (
            'if [ "$(id -u)" -ne 0 ]; then if sudo -n true; '
            'then r="sudo -n -H env${x:+ XILINX_XRT=$x}"; '
            f'else echo "{NOT_ROOT}"; exit 3; fi; fi; '
        )
    serve = _serve('$r "$p"')
    script += (
        f'for b in {programs}; do if p=$(command -v "$b"); then {serve}; fi; done; '
        f'echo "{MISSING}"; exit 127'
    )
    return f"sh -c {shlex.quote(script)}"


def _serve(command: str) -> str:
    # an older bacmac refuses the words, with status 2, and is asked for its version
    return f"{command} remote board; s=$?; if [ $s -eq 2 ]; then {command} --version; fi; exit $s"
