"""Run the pickles of PyTorch files on a machine that can build tensors and containers only.

A pickle is a program for a stack machine (Python's Lib/pickletools.py describes every
instruction). This is another machine for the same programs. It never imports, and what a program
calls is one of `torch_notes.REBUILD`, which take notes of a tensor, or one of the few names of
`torch_names.IGNORED`, which stand for what no weight needs and leave an inert `Ignored`. Every
other name is refused, and told. Where torch.load(weights_only=True) went wrong (CVE-2025-32434,
CVE-2026-24747) there is nothing here: no real type is constructed, and no size or index is used
before `torch_tensors` has checked it.

Time and memory are bounded by the pickle's bytes and MAX_INSTRUCTIONS: no instruction makes more
than it holds, nesting costs no recursion, and keys are hashed only where they are plain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from bacmac.host.importers.torch_names import (
    IGNORED,
    STORAGES,
    TYPES,
    full_name,
    is_network,
    is_torch_type,
)
from bacmac.host.importers.torch_notes import (
    REBUILD,
    Global,
    Ignored,
    Storage,
    TensorNote,
    is_plain,
)

MAX_INSTRUCTIONS = 2_000_000
MAX_INTEGER_BYTES = 64
MAX_NAME_BYTES = 1024


class PickleRefusedError(Exception):
    """A pickle that is damaged, or that wants more than tensors; the caller names the file."""

    def __init__(self, at: int, found: str, expected: str = "", hint: str = "") -> None:
        super().__init__(at, found, expected, hint)
        self.at = at
        self.found = found
        self.expected = expected or "tensors, numbers, texts, lists and dicts"
        self.hint = hint


def run_pickle(
    data: bytes, start: int = 0, storages: dict[str, Storage] | None = None
) -> tuple[object, int]:
    """The value that a pickle describes, and where in `data` it ends.

    Args:
        data: holds the pickle, perhaps among others.
        start: where it begins.
        storages: is given every storage that the pickle refers to, by key.

    Raises:
        PickleRefusedError: damaged, too long, or it wants what it may not have.
    """
    machine = _Machine(data, start, {} if storages is None else storages)
    return machine.run(), machine.at


class _Machine:
    def __init__(self, data: bytes, start: int, storages: dict[str, Storage]) -> None:
        self.data = data
        self.storages = storages
        self.at = start
        self.began = start  # of the instruction at hand
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.work = 0

    def refuse(self, found: str, expected: str = "", hint: str = "") -> PickleRefusedError:
        return PickleRefusedError(self.began, found, expected, hint)

    def run(self) -> object:
        for _ in range(MAX_INSTRUCTIONS):
            self.began = self.at
            code = self.take(1)
            if code == b".":
                value = self.pop()
                if self.stack or self.marks:
                    raise self.refuse("a pickle that leaves values behind", "one value")
                return value
            action = _INSTRUCTIONS.get(code)
            if action is None:
                name = _REFUSED.get(code, f"byte {code.hex()}")
                raise self.refuse(f"the instruction {name}", "those that torch.save writes")
            action(self)
        raise self.refuse(f"more than {MAX_INSTRUCTIONS} instructions", "a smaller checkpoint")

    def take(self, n: int) -> bytes:
        piece = self.data[self.at : self.at + n]
        if len(piece) != n:
            raise self.refuse("the end of the data", f"{n} more bytes", "the file is cut short")
        self.at += n
        return piece

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def sized(self, layout: str) -> bytes:
        return self.take(self.number(layout))

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + MAX_NAME_BYTES)
        if end < 0:
            raise self.refuse("a name without an end", f"at most {MAX_NAME_BYTES} bytes")
        text = self.data[self.at : end]
        self.at = end + 1
        return text.decode("utf-8", "replace")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.refuse("an empty stack", "a value on it")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise self.refuse("no mark on the stack", "one")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def tuple_of(self, n: int) -> None:
        values = [self.pop() for _ in range(n)]
        self.push(tuple(reversed(values)))

    def fetch(self, index: int) -> None:
        if index not in self.memo:
            raise self.refuse(f"memo {index}, which holds nothing", "one that was stored before")
        self.push(self.memo[index])

    def store(self, index: int) -> None:
        value = self.pop()
        self.memo[index] = value
        self.push(value)

    def name(self, module: str, name: str) -> None:
        full = full_name(module, name)
        known = full in REBUILD or full in TYPES or full in IGNORED
        if not known and not is_torch_type(module, name):
            raise self.refuse(
                f"the Python object {full!r:.200}",
                hint="this is a whole network, which is code: save model.state_dict() instead"
                if is_network(module)
                else "a checkpoint can hold code; none of it was run",
            )
        self.push(Global(full))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise self.refuse("a name that is no text", "a text")
        self.name(module[:MAX_NAME_BYTES], name[:MAX_NAME_BYTES])

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.push(self.call(function, arguments))

    def call(self, function: object, arguments: object) -> object:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise self.refuse(f"a call of {_kind(function)}", "a call that rebuilds a tensor")
        if function.name in IGNORED:
            return Ignored(function.name)
        if function.name == "torch._tensor._rebuild_from_type_v2" and len(arguments) == 4:
            inner, _, state, _ = arguments  # a Parameter or Tensor with attributes of its own
            if inner == function:
                raise self.refuse("a tensor type in a tensor type", "one")
            return self.call(inner, state)
        if arguments and isinstance(arguments[0], list):
            self.work += len(arguments[0])  # the same long list can be given again and again
            if self.work > MAX_INSTRUCTIONS:
                raise self.refuse("lists without an end", "a smaller checkpoint")
        rebuild = REBUILD.get(function.name)
        made = rebuild(arguments) if rebuild is not None else None
        if made is None:
            raise self.refuse(f"a call of {function.name} with other arguments", "those of torch")
        return made

    def new_object(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if isinstance(arguments, tuple) and isinstance(kind, Global):
            if kind.name in IGNORED:
                self.push(Ignored(kind.name))
                return
            if kind.name == "collections.OrderedDict":
                self.push({})
                return
        raise self.refuse(f"a new object of {_kind(kind)}", "a container")

    def build(self) -> None:
        self.pop()  # attributes: of no weight
        target = self.pop()
        if not isinstance(target, (dict, Ignored, TensorNote)):
            raise self.refuse(f"attributes of {_kind(target)}", "of a tensor or a container")
        self.push(target)

    def persistent(self) -> None:
        said = self.pop()
        if not isinstance(said, tuple) or len(said) not in (5, 6) or said[0] not in ("storage",):
            raise self.refuse(f"a reference to {_kind(said)}", "to a tensor's storage")
        kind, key, elements = said[1], said[2], said[4]
        name = kind.name.rpartition(".")[2] if isinstance(kind, Global) else ""
        known_key = type(key) is int or (type(key) is str and len(key) <= MAX_NAME_BYTES)
        if name not in STORAGES or not known_key or not _is_count(elements):
            raise self.refuse("a reference to another kind of storage", "type, key and size")
        start = 0
        if len(said) == 6 and said[5] is not None:
            view = said[5]
            if not (isinstance(view, tuple) and len(view) == 3 and _is_count(view[1])):
                raise self.refuse("a view of a storage without its place", "key, offset and size")
            start = view[1]
        storage = Storage(name, str(key), elements, start)
        known = self.storages.setdefault(storage.key, storage)
        if (known.kind, known.elements) != (name, elements):
            raise self.refuse(f"storage {key!r:.60} of two types or sizes", "one of each")
        self.push(storage)

    def add_items(self, values: list[Any]) -> None:
        target = self.pop()
        self.push(target)
        if isinstance(target, Ignored):
            return
        if type(target) is not dict:
            raise self.refuse(f"items for {_kind(target)}", "for a dict")
        if len(values) % 2:
            raise self.refuse("a key without a value", "both")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not is_plain(key):
                raise self.refuse(f"a key that is {_kind(key)}", "a text or a number")
            target[key] = value

    def dict_of_marked(self) -> None:
        values = self.pop_mark()
        self.push({})
        self.add_items(values)

    def frozen_set(self) -> None:
        self.pop_mark()
        self.push(Ignored("builtins.frozenset"))

    def extend(self, values: list[Any]) -> None:
        target = self.pop()
        self.push(target)
        if isinstance(target, Ignored):
            return
        if type(target) is not list:
            raise self.refuse(f"members for {_kind(target)}", "for a list")
        target.extend(values)

    def integer(self, n: int) -> None:
        if n > MAX_INTEGER_BYTES:
            raise self.refuse(f"an integer of {n} bytes", f"at most {MAX_INTEGER_BYTES}")
        self.push(int.from_bytes(self.take(n), "little", signed=True))

    def frame(self) -> None:
        n = self.number("<Q")
        if n > len(self.data) - self.at:
            raise self.refuse(f"a frame of {n} bytes", f"at most {len(self.data) - self.at}")

    def protocol(self) -> None:
        version = self.number("B")
        if not 2 <= version <= 5:
            raise self.refuse(f"pickle protocol {version}", "2 to 5")

    def begin(self) -> None:
        self.marks.append(len(self.stack))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _kind(value: object) -> str:
    if isinstance(value, (Global, Ignored)):
        return f"{value.name!r:.100}"
    return f"a {type(value).__name__}"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"J": lambda m: m.push(m.number("<i")),
    b"\x8a": lambda m: m.integer(m.number("B")),
    b"\x8b": lambda m: m.integer(m.number("<I")),
    b"G": lambda m: m.push(m.number(">d")),
    b"X": lambda m: m.push(_text(m.sized("<I"))),
    b"\x8c": lambda m: m.push(_text(m.sized("B"))),
    b"\x8d": lambda m: m.push(_text(m.sized("<Q"))),
    b"U": lambda m: m.push(_text(m.sized("B"))),
    b"T": lambda m: m.push(_text(m.sized("<I"))),
    b"B": lambda m: m.push(m.sized("<I")),
    b"C": lambda m: m.push(m.sized("B")),
    b"\x8e": lambda m: m.push(m.sized("<Q")),
    b"(": _Machine.begin,
    b"0": _Machine.pop,
    b"1": _Machine.pop_mark,
    b"}": lambda m: m.push({}),
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"\x8f": lambda m: m.push(Ignored("builtins.set")),
    b"\x90": lambda m: m.extend(m.pop_mark()),
    b"\x91": _Machine.frozen_set,
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"l": lambda m: m.push(m.pop_mark()),
    b"d": _Machine.dict_of_marked,
    b"a": lambda m: m.extend([m.pop()]),
    b"e": lambda m: m.extend(m.pop_mark()),
    b"s": lambda m: m.add_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.add_items(m.pop_mark()),
    b"q": lambda m: m.store(m.number("B")),
    b"r": lambda m: m.store(m.number("<I")),
    b"\x94": lambda m: m.store(len(m.memo)),
    b"h": lambda m: m.fetch(m.number("B")),
    b"j": lambda m: m.fetch(m.number("<I")),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"\x93": _Machine.stack_global,
    b"R": _Machine.reduce,
    b"\x81": _Machine.new_object,
    b"b": _Machine.build,
    b"Q": _Machine.persistent,
}

_REFUSED = {
    b"i": "INST", b"o": "OBJ", b"P": "PERSID", b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4",
    b"\x92": "NEWOBJ_EX", b"\x96": "BYTEARRAY8", b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER",
    b"2": "DUP", b"I": "INT", b"L": "LONG", b"F": "FLOAT", b"S": "STRING", b"V": "UNICODE",
    b"p": "PUT", b"g": "GET",
}  # fmt: skip
"""What torch.save never writes, by the names of Python's pickletools."""
