"""Tell what a file is by its first bytes; its name only matters where it has no mark of its own."""

from __future__ import annotations

from pathlib import Path

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.torch_file import MAGIC

HEAD_BYTES = 1024

ONNX, TFLITE, TORCH, NPZ = "ONNX", "TFLite", "PyTorch", "NumPy (.npz)"
SAFETENSORS, LAYERS = "safetensors", "layer list (JSON)"

_ONNX_TAGS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""First bytes of the fields that may follow ir_version in a ModelProto (onnx.proto)."""

_FOREIGN = (
    (b"\x89HDF\r\n", "Keras or HDF5", "convert it to TFLite, or to ONNX with tf2onnx"),
    (b"\x1f\x8b", "gzip", "unpack it first"),
    (b"BZh", "bzip2", "unpack it first"),
    (b"\xfd7zXZ", "xz", "unpack it first"),
    (b"Rar!", "RAR", "unpack it first"),
    (b"7z\xbc\xaf", "7-Zip", "unpack it first"),
    (b"version https://git-lfs", "Git LFS pointer", "git lfs pull fetches the file itself"),
    (b"<", "HTML or XML", "a download page was saved in place of the file"),
    (b"\x93NUMPY", "NumPy array (.npy)", "weights are a .npz of named arrays"),
    (b"\x7fELF", "program", ""),
    (b"%PDF", "PDF", ""),
)


def read_head(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        ModelFileError: missing, unreadable, empty, or no file.
    """
    expected = "a model file"
    try:
        if path.exists() and not path.is_file():
            raise ModelFileError(
                path, "file", found="a folder or a special file", expected=expected
            )
        with path.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        found = str(reason or problem).lower()
        raise ModelFileError(path, "file", found=found, expected=expected) from problem
    if not head:
        raise ModelFileError(path, "file", found="an empty file", expected=expected)
    return head


def kind_of(head: bytes) -> str:
    """The kind of a file that starts like this, or "" where nothing tells."""
    if head[4:8] == b"TFL3":
        return TFLITE
    if head.startswith(b"PK\x03\x04"):
        return _archive_kind(head)
    if MAGIC in head[:32]:
        return TORCH
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return SAFETENSORS
    if head.lstrip()[:1] == b"{":
        return LAYERS
    if head[:1] == b"\x08" and head[2:3] and head[2] in _ONNX_TAGS:
        return ONNX
    return ""


def foreign(head: bytes) -> tuple[str, str]:
    """What a file is that no importer reads, and what to do; two empty texts if unknown."""
    if head[257:262] == b"ustar" or head.startswith((b"sys_info\0", b"pickle\0", b"tensors\0")):
        return "tar archive", "PyTorch before 0.2 wrote such: load it there and save it again"
    if head.startswith(b"PK"):
        name = _first_member(head)
        if name in ("metadata.json", "config.json", "model.weights.h5"):
            return "Keras archive", "convert it to TFLite, or to ONNX with tf2onnx"
        return f"ZIP archive of {name!r:.60}", "a .npz or a PyTorch file is expected"
    if len(head) > 1 and head[0] == 0x80 and head[1] <= 5:
        return "pickle", "PyTorch's state dict is read, other pickles never: they are programs"
    for start, what, hint in _FOREIGN:
        if head.startswith(start):
            return what, hint
    return "", ""


def _archive_kind(head: bytes) -> str:
    name = _first_member(head)
    if name.endswith(".npy"):
        return NPZ
    return TORCH if "/" in name else ""


def _first_member(head: bytes) -> str:
    """Name in the first local header of a ZIP archive (APPNOTE 4.3.7)."""
    length = int.from_bytes(head[26:28], "little")
    return head[30 : 30 + length].decode("utf-8", "replace")
