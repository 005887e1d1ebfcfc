"""Read the tensors of a PyTorch state dict or checkpoint, without PyTorch and without running it.

Two layouts (torch/serialization.py of PyTorch 2): since 1.6 a ZIP archive with the pickle
`data.pkl` and one member for each storage; before, five values behind one another: a magic
number, a version, facts of the machine, the pickle and the names of the storages, then their
bytes. The tar files of PyTorch before 0.2, TorchScript and torch.export archives are refused by
name. The pickle is run by `torch_pickle`, and `torch_tensors` checks what it tells of each tensor.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from bacmac.host.errors import ModelFileError
from bacmac.host.importers.torch_notes import Storage, TensorNote
from bacmac.host.importers.torch_pickle import PickleRefusedError, run_pickle
from bacmac.host.importers.torch_tensors import Source, element_bytes, read_tensor
from bacmac.host.importers.weight_file import WeightFile
from bacmac.host.importers.zip_archive import FREE_BYTES, open_zip

MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The magic number of the files before the ZIP archive, as its pickle holds it."""

MAX_PICKLE_BYTES = 64 << 20
LEGACY_VERSION = 1001
READ_AGAIN = 16
"""How often the archive's bytes may be read: a storage is read whole for each tensor in it."""

_CHECKPOINT = (
    "state_dict", "model_state_dict", "model", "net", "network", "weights", "model_state",
    "params", "params_ema",
)  # fmt: skip
"""Under what names checkpoints hold the state dict, the likeliest first."""

_WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

_PACKED = "._packed_params._packed_params"


def read_torch(path: Path, data: bytes, sha256: str) -> WeightFile:
    """The tensors of a file's bytes, by the names of the state dict.

    Integers with a scale (torch.quantize_per_tensor, _per_channel) keep both. Names lose a prefix
    that they all have from DataParallel or torch.compile; the weight and bias in
    `_packed_params` of a quantized Linear are named as those of a float one.

    Raises:
        ModelFileError: damaged, of another layout, without tensors, or a pickle that wants more
            than tensors: the object is named, and nothing of it was run.
    """
    if data.startswith(b"PK"):
        value, source = _open_archive(path, data)
    elif MAGIC in data[:32]:
        value, source = _open_legacy(path, data)
    else:
        raise ModelFileError(
            path,
            "header",
            found="neither a PyTorch archive nor its older layout",
            expected="what torch.save writes",
        )
    found, notes = _state_dict(path, value)
    readers = {name: partial(read_tensor, source, name, note) for name, note in found.items()}
    return WeightFile(path, sha256, readers, tuple(notes))


def _open_archive(path: Path, data: bytes) -> tuple[object, Source]:
    expected = "what torch.save writes"
    archive = open_zip(path, data, ModelFileError, expected)

    def refuse(field: str, found: str, wanted: str, hint: str = "") -> ModelFileError:
        return ModelFileError(path, field, found=found, expected=wanted, hint=hint)

    tops = [name.rpartition("/")[0] for name in archive.sizes if name.endswith("/data.pkl")]
    roots = [top for top in tops if "/" not in top]
    whole = "export it to ONNX, or save model.state_dict()"
    if any(name.endswith(("/constants.pkl", "/code/__torch__.py")) for name in archive.sizes):
        raise refuse("header", "a TorchScript archive, which is code", "a state dict", whole)
    if any(
        name.endswith(("/archive_format", "serialized_exported_program.json"))
        for name in archive.sizes
    ):
        raise refuse("header", "a torch.export archive", "a state dict", whole)
    if len(roots) != 1:
        raise refuse("header", f"{len(roots)} members named data.pkl", "one, in one folder")
    root = roots[0]
    strange = [name for name in archive.sizes if not name.startswith(f"{root}/")]
    if strange:
        raise refuse(f"member {strange[0]!r}", "outside the archive's folder", f"in {root!r}")
    if archive.sizes[f"{root}/data.pkl"] > MAX_PICKLE_BYTES:
        size = archive.sizes[f"{root}/data.pkl"]
        raise refuse("data.pkl", f"{size} bytes", f"at most {MAX_PICKLE_BYTES}")
    order = "little"
    if f"{root}/byteorder" in archive.sizes:
        if archive.sizes[f"{root}/byteorder"] <= 16:
            order = archive.read(f"{root}/byteorder", "byteorder").decode("ascii", "replace")
        if order not in ("little", "big"):
            raise refuse("byteorder", f"{order!r}", "little or big")
    value = _run(path, archive.read(f"{root}/data.pkl", "data.pkl"), 0, "data.pkl")[0]
    folder = f"{root}/data/"
    sizes = {
        name.removeprefix(folder): size
        for name, size in archive.sizes.items()
        if name.startswith(folder)
    }

    held: dict[str, bytes] = {}  # the last storage read: often the next tensor's too
    left = READ_AGAIN * len(data) + FREE_BYTES

    def read(key: str, start: int, count: int) -> bytes:
        nonlocal left
        if key not in held:
            left -= sizes[key]
            if left < 0:
                wanted = f"{READ_AGAIN} times the file at most"
                raise refuse(f"storage {key!r}", "storages to be read again and again", wanted)
            held.clear()
            held[key] = archive.read(folder + key, f"storage {key!r}")
        return held[key][start : start + count]

    return value, Source(path, sizes, read, "<" if order == "little" else ">")


def _open_legacy(path: Path, data: bytes) -> tuple[object, Source]:
    def refuse(field: str, found: str, wanted: str) -> ModelFileError:
        return ModelFileError(path, field, found=found, expected=wanted)

    magic, at = _run(path, data, 0, "magic number")
    version, at = _run(path, data, at, "version")
    facts, at = _run(path, data, at, "facts of the machine")
    if magic != int.from_bytes(MAGIC, "little") or version != LEGACY_VERSION:
        raise refuse("version", "another one", f"{LEGACY_VERSION}")
    if not isinstance(facts, dict) or type(facts.get("little_endian")) is not bool:
        raise refuse("facts of the machine", "no byte order", "little_endian")
    order: Literal["<", ">"] = "<" if facts["little_endian"] else ">"
    storages: dict[str, Storage] = {}
    value, at = _run(path, data, at, "pickle", storages)
    keys, at = _run(path, data, at, "names of the storages")
    if not isinstance(keys, list):
        raise refuse("names of the storages", "no list", "a list")
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        field = f"storage {str(key)[:100]!r}" if isinstance(key, (str, int)) else "storage"
        known = storages.get(str(key)) if isinstance(key, (str, int)) else None
        if known is None or known.key in places:
            raise refuse(field, "twice, or of no tensor", "one of the pickle's")
        said = int.from_bytes(data[at : at + 8], "little" if order == "<" else "big")
        count = said * element_bytes(known.kind)
        if said != known.elements or count > len(data) - at - 8:
            raise refuse(field, f"{said} elements", f"{known.elements}, within the file")
        places[known.key] = (at + 8, count)
        at += 8 + count

    def read(key: str, start: int, count: int) -> bytes:
        first, size = places[key]
        return data[first + start : first + min(size, start + count)]

    sizes = {key: count for key, (_, count) in places.items()}
    return value, Source(path, sizes, read, order)


def _run(
    path: Path, data: bytes, at: int, field: str, storages: dict[str, Storage] | None = None
) -> tuple[object, int]:
    try:
        return run_pickle(data, at, storages)
    except PickleRefusedError as refused:
        raise ModelFileError(
            path,
            f"{field}, byte {refused.at}",
            found=refused.found,
            expected=refused.expected,
            hint=refused.hint,
        ) from refused


def _state_dict(path: Path, value: object) -> tuple[dict[str, TensorNote], list[str]]:
    """Tensors by name, and what was left out."""
    notes: list[str] = []
    if not isinstance(value, dict):
        raise ModelFileError(
            path, "checkpoint", found=f"a {type(value).__name__}", expected="a state dict"
        )
    if not _tensors(value):
        inner = {
            key: held
            for key, held in value.items()
            if isinstance(key, str) and isinstance(held, dict) and _tensors(held)
        }
        likely = [key for key in _CHECKPOINT if key in inner] or list(inner)[:1]
        if not likely:
            raise ModelFileError(
                path, "checkpoint", found=f"no tensors in {_listed(value)}", expected="a state dict"
            )
        others = [key for key in value if key != likely[0]]
        beside = f"; not read: {_listed(others)}" if others else ""
        notes.append(f"the weights are those of {likely[0]!r}{beside}")
        value = inner[likely[0]]
    found = _tensors(value)
    rest = [key for key in value if key not in found and not _is_packed(key)]
    if rest:
        notes.append(f"not read, being no tensors: {_listed(rest)}")
    for wrapper in _WRAPPERS:
        if found and all(name.startswith(wrapper) for name in found):
            found = {name.removeprefix(wrapper): note for name, note in found.items()}
            notes.append(f"the prefix {wrapper!r} of every name is left out")
    return found, notes


def _tensors(value: dict[Any, object]) -> dict[str, TensorNote]:
    found: dict[str, TensorNote] = {}
    for key, held in value.items():
        if not isinstance(key, str):
            continue
        if isinstance(held, TensorNote):
            found[key] = held
        elif key.endswith(_PACKED) and isinstance(held, tuple) and len(held) == 2:
            for part, tensor in zip(("weight", "bias"), held, strict=True):
                if isinstance(tensor, TensorNote):
                    found[f"{key.removesuffix(_PACKED)}.{part}"] = tensor
    return found


def _is_packed(key: object) -> bool:
    return isinstance(key, str) and "._packed_params." in key


def _listed(names: Any) -> str:
    listed = [f"{name!r:.40}" for name in list(names)[:6]]
    return ", ".join(listed) + (", ..." if len(names) > 6 else "") or "it"
