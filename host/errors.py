"""Every error that a user can cause or mend, in one tree.

    BacmacError                 exit status 2; printed as one line, never a traceback
    ├── InputError              a file or an option is wrong: file, field, found, expected
    │   ├── ModelFileError      a model, or its layer list, cannot be imported
    │   ├── ImageFileError      an image set cannot be used
    │   ├── PackedFileError     a packed model is damaged, hostile or of another version
    │   ├── OverlayError        a manifest, register map or overlay file is wrong
    │   ├── JournalError        a campaign's journal is damaged, foreign or of another version
    │   └── MismatchError       two good files do not fit together (model, overlay, images)
    ├── OutputError             a result cannot be written (disk full, no permission)
    ├── MissingExtraError       an optional dependency is needed and not installed
    ├── CompileError            the overlay cannot run this network (buffers, overflow proof)
    ├── DeviceError             the device refused, failed or is not there
    │   ├── DeviceMissingError  no board, or no PYNQ on it
    │   ├── DeviceSetupError    the board is there; the user or the environment lacks something
    │   ├── DeviceBusyError     another process has the board
    │   ├── DeviceMemoryError   no contiguous memory is left
    │   ├── DeviceTimeoutError  a deadline passed; carries the register state
    │   └── VerificationError   outputs are not the exact engine's; exit status 1
    └── RailError               a power rail cannot be read, or its data cannot bear the question
        └── TraceTooShortError  fewer than two samples in a window

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class BacmacError(Exception):
    """Base of all errors that are told to the user in one line."""

    exit_code: int = 2


class InputError(BacmacError):
    """Something given is not what is needed.

    Args:
        file: the file (or option) at fault, as the user gave it.
        field: what in it: a node, a tensor, a key, "header", ...
        found: what is there.
        expected: what should be there.
        hint: what to do next, a short sentence without a full stop, or empty.
    """

    def __init__(
        self, file: str | Path, field: str, *, found: str, expected: str, hint: str = ""
    ) -> None:
        self.file = str(file)
        self.field = field
        self.found = found
        self.expected = expected
        self.hint = hint
        text = f"{self.file}: {field}: found {found}; expected {expected}"
        super().__init__(_one_line(f"{text} ({hint})" if hint else text))


class ModelFileError(InputError):
    """A model file cannot be imported: unreadable, or an op that the accelerator lacks."""


class ImageFileError(InputError):
    """An image set cannot be used."""


class PackedFileError(InputError):
    """A packed model is damaged, hostile, or of a version this release does not read."""


class OverlayError(InputError):
    """A manifest, a register map or an overlay's file is wrong."""


class JournalError(InputError):
    """A campaign's journal is damaged, foreign, or of a version this release does not read."""


class MismatchError(InputError):
    """Two files that are each good do not belong together."""


class OutputError(BacmacError):
    """A result cannot be written; nothing half written is left behind."""

    def __init__(self, file: str | Path, reason: str) -> None:
        super().__init__(_one_line(f"{file}: cannot be written: {reason}; nothing was changed"))


class MissingExtraError(BacmacError):
    """An optional dependency is needed for this and is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'bacmac[{extra}]'")


class CompileError(BacmacError):
    """The overlay cannot run this network, or exactness cannot be proven."""


class DeviceError(BacmacError):
    """The device refused, failed, or is not there.

    Attributes:
        state: what the device told of itself when it failed, as plain types for JSON; None where
            nothing was asked of it.
    """

    def __init__(self, message: str, *, state: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.state = state


class DeviceMissingError(DeviceError):
    """There is no board here, or no PYNQ on it."""


class DeviceSetupError(DeviceError):
    """The board is there, and something about this process keeps it from being used."""


class DeviceBusyError(DeviceError):
    """Another process has the board; the message says which."""


class DeviceMemoryError(DeviceError):
    """A buffer cannot be allocated.

    Args:
        n_bytes: of the buffer.
        detail: how much there is and what has it.
    """

    def __init__(self, n_bytes: int, detail: str) -> None:
        super().__init__(
            f"no contiguous memory for {n_bytes} bytes: {detail}; take a smaller batch, end other "
            "programs that hold buffers, or boot with more (cma=512M on the kernel's command line)"
        )


class DeviceTimeoutError(DeviceError):
    """A wait reached its deadline; the message names the register state."""


class VerificationError(DeviceError):
    """The device ran, and its outputs are not those of the exact engine: no result is given."""

    exit_code = 1


class RailError(BacmacError):
    """A power rail cannot be read, or what was read cannot bear the question."""


class TraceTooShortError(RailError):
    """Fewer than two samples lie in a window: there is no energy to tell."""


def _one_line(text: str, limit: int = 600) -> str:
    """Fold a message to one printable line: hostile files put control characters in names."""
    folded = " ".join(text.split())
    printable = "".join(c if c.isprintable() else "?" for c in folded)
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"
