"""The Python names that PyTorch files refer to, and what each stands for here."""

from __future__ import annotations

STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bf16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "b1", "UntypedStorage": "u1",
    "QInt8Storage": "i1", "QUInt8Storage": "u1", "QInt32Storage": "i4",
    "ComplexFloatStorage": "", "ComplexDoubleStorage": "",
}  # fmt: skip
"""Element of each storage in NumPy's words; bf16 is widened, "" is none that is read."""

DTYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "bf16",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1", "bool": "b1",
    "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
    "qint8": "", "quint8": "", "qint32": "", "quint4x2": "", "quint2x4": "",
    "complex32": "", "complex64": "", "complex128": "", "float8_e4m3fn": "", "float8_e5m2": "",
    "float8_e4m3fnuz": "", "float8_e5m2fnuz": "", "float8_e8m0fnu": "", "float4_e2m1fn_x2": "",
}  # fmt: skip
"""Likewise, of the types that a tensor names itself."""

QSCHEMES = frozenset(
    (
        "per_tensor_affine",
        "per_tensor_symmetric",
        "per_channel_affine",
        "per_channel_symmetric",
        "per_channel_affine_float_qparams",
    )
)

TYPES = frozenset(
    (
        "torch.Tensor",
        "torch.nn.parameter.Buffer",
        "torch.nn.parameter.Parameter",
        "torch.storage.UntypedStorage",
    )
)
"""Named beside a tensor, never called."""

IGNORED = frozenset(
    (
        "_codecs.encode",
        "argparse.Namespace",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.set",
        "builtins.slice",
        "collections.Counter",
        "collections.defaultdict",
        "collections.deque",
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "numpy.ndarray",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "torch.Generator",
        "torch.Size",
        "torch._utils._rebuild_meta_tensor_no_storage",
        "torch._utils._rebuild_sparse_tensor",
        "torch.device",
        "torch.serialization._get_layout",
    )
)
"""What checkpoints hold beside their weights. Nothing is imported or called for these."""

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def full_name(module: str, name: str) -> str:
    """`module.name`, with Python 2's modules as Python 3 calls them."""
    return f"{_PYTHON_2.get(module, module)}.{name}"


def is_torch_type(module: str, name: str) -> bool:
    """Whether it names a storage, an element type or a quantization scheme."""
    return module == "torch" and (name in STORAGES or name in DTYPES or name in QSCHEMES)


def is_network(module: str) -> bool:
    """Whether such an object is part of a whole network that was pickled."""
    first = module.split(".")[0]
    known = first in ("__main__", "__torch__", "torchvision", "models", "timm")
    return known or module.startswith(("torch.nn.modules", "torch.fx"))
