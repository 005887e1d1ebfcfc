"""What both ends of a remote run share: frames over a pipe, names of jobs, what is installed.

The end at the user asks, the end on the board answers; one request, one answer. Every request may
be repeated after the link was lost: it says where in a file its bytes belong, and which job it
means. Names of files travel inside JSON, so no shell ever sees one.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import os
import re
import secrets
import select
import struct
import time
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

GREETING = b"\nbacmac-board 1\n"
"""First bytes from the board; what a login script printed before them is not ours."""
CHUNK_BYTES = 1 << 20
"""Most bytes of a file in one frame."""
NOISE_BYTES = 1 << 16
"""Most bytes that a login script may print ahead of the greeting."""

_LENGTHS = struct.Struct(">II")
_JOB = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_ROOMS = ("cli", "host", "overlays", "power")

Message = dict[str, Any]
"""One request or answer: plain JSON types."""


class LinkLostError(Exception):
    """The other end is gone, or said nothing for too long; the link catches it, no user sees it."""


def new_job_name() -> str:
    """A name that no other job has: the time, for people, and 32 random bits.

    >>> is_job_name(new_job_name())
    True
    """
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


def is_job_name(text: str) -> bool:
    """Whether the text is a job's name; it becomes a folder's, so nothing else may pass.

    >>> is_job_name("../../etc")
    False
    """
    return _JOB.fullmatch(text) is not None


def job_age_s(name: str) -> float:
    """Seconds since a job was named, by the clock of the user, who named it: boards have none."""
    named = time.strptime(name.rpartition("-")[0], "%Y%m%d-%H%M%S")
    return max(0.0, time.time() - calendar.timegm(named))


def installed() -> dict[str, str]:
    """What is installed here: the version, and a hash of the code and of its tables.

    The hash covers every `.py` and `.toml` in the packages themselves. Overlays are data in folders
    below them, and a board may well have bitstreams that the user's machine lacks.
    """
    digest = hashlib.sha256()
    for room in _ROOMS:
        root = Path(str(files(f"bacmac.{room}")))
        packages = sorted({root, *(init.parent for init in root.rglob("__init__.py"))})
        for package in packages:
            for path in sorted(package.iterdir()):
                if path.suffix in (".py", ".toml"):
                    name = f"{room}/{path.relative_to(root).as_posix()}"
                    digest.update(
                        f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
                    )
    return {"version": metadata.version("bacmac"), "code": digest.hexdigest()}


def send_frame(descriptor: int, message: Message, body: bytes = b"") -> None:
    """Write one frame: two lengths (big endian, 32 bits), the JSON, the bytes of a file.

    Raises:
        LinkLostError: nobody reads any more.
    """
    head = json.dumps(message).encode()
    data = memoryview(_LENGTHS.pack(len(head), len(body)) + head + body)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError as error:
        raise LinkLostError("the other end reads no more") from error


def receive_frame(descriptor: int, timeout_s: float) -> tuple[Message, bytes]:
    """Read one frame.

    Raises:
        LinkLostError: the other end is gone, is silent for `timeout_s`, or sends no frames.
    """
    deadline = time.monotonic() + timeout_s
    lengths = receive_bytes(descriptor, _LENGTHS.size, deadline)
    head_bytes, body_bytes = _LENGTHS.unpack(lengths)
    if head_bytes > 16 * CHUNK_BYTES or body_bytes > CHUNK_BYTES:
        raise LinkLostError("what arrives is no frame")
    head = receive_bytes(descriptor, head_bytes, deadline)
    body = receive_bytes(descriptor, body_bytes, deadline)
    try:
        message = json.loads(head)
    except ValueError as error:
        raise LinkLostError("what arrives is no frame") from error
    if not isinstance(message, dict):
        raise LinkLostError("what arrives is no frame")
    return message, body


def receive_bytes(descriptor: int, n_bytes: int, deadline: float) -> bytes:
    """Exactly so many bytes of a pipe, by a deadline of `time.monotonic`.

    Raises:
        LinkLostError: end of file, or the deadline.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    parts: list[bytes] = []
    missing = n_bytes
    while missing:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise LinkLostError("no answer in time")
        part = os.read(descriptor, min(missing, CHUNK_BYTES))
        if not part:
            raise LinkLostError("the other end closed the connection")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
