"""What a PyTorch pickle tells of its tensors: notes, of which nothing is checked yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_KEY_PARTS = 8


@dataclass(frozen=True)
class Global:
    """A name that the pickle refers to, and nothing behind it."""

    name: str


@dataclass(frozen=True)
class Ignored:
    """Something that no weight needs: it was not built."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A tensor's bytes, which are elsewhere in the file.

    Attributes:
        kind: PyTorch's name, `FloatStorage`.
        key: which storage.
        elements: how many the pickle says there are; bytes for an UntypedStorage.
        start: first element that a view of it begins at (files before PyTorch 0.4).
    """

    kind: str
    key: str
    elements: int
    start: int = 0


@dataclass(frozen=True)
class TensorNote:
    """What the pickle says of a tensor; nothing of it is checked yet.

    Attributes:
        storage: where its elements are.
        offset: of its first element in the storage.
        shape: of the tensor.
        stride: in elements, one for each side.
        dtype: PyTorch's name, or "" for the storage's own.
        quantizer: of a quantized tensor, `(scheme, scale, zero point[, axis])`.
    """

    storage: object
    offset: object
    shape: object
    stride: object
    dtype: str = ""
    quantizer: object = None


def is_plain(key: object) -> bool:
    """Whether a key can be hashed at once, and not as a thousand others."""
    if isinstance(key, tuple) and len(key) <= MAX_KEY_PARTS:
        return not any(isinstance(part, tuple) or not is_plain(part) for part in key)
    if isinstance(key, int):
        return key.bit_length() < 64
    return key is None or isinstance(key, (str, bytes, Global))


def _tensor(arguments: tuple[Any, ...], dtype: str = "") -> TensorNote | None:
    if len(arguments) < 4:
        return None
    storage, offset, shape, stride = arguments[:4]
    return TensorNote(storage, offset, shape, stride, dtype)


def _tensor_v3(arguments: tuple[Any, ...]) -> TensorNote | None:
    if len(arguments) < 7 or not isinstance(arguments[6], Global):
        return None
    return _tensor(arguments, arguments[6].name.removeprefix("torch."))


def _quantized(arguments: tuple[Any, ...]) -> TensorNote | None:
    if len(arguments) < 5:
        return None
    storage, offset, shape, stride, quantizer = arguments[:5]
    return TensorNote(storage, offset, shape, stride, "", quantizer)


def _parameter(arguments: tuple[Any, ...]) -> object:
    held = arguments[0] if arguments else None
    return held if isinstance(held, (TensorNote, Ignored)) else None


def _ordered(arguments: tuple[Any, ...]) -> object:
    """An empty dict, or one of [key, value] pairs, as Python 2 wrote it."""
    if not arguments:
        return {}
    pairs = arguments[0]
    if len(arguments) != 1 or not isinstance(pairs, list):
        return None
    if not all(isinstance(pair, list) and len(pair) == 2 and is_plain(pair[0]) for pair in pairs):
        return None
    return dict(pairs)


REBUILD: dict[str, Callable[[tuple[Any, ...]], object]] = {
    "collections.OrderedDict": _ordered,
    "torch._tensor._rebuild_from_type_v2": lambda arguments: None,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
}
"""What stands for a function of PyTorch, by its name: None for arguments that do not fit."""
