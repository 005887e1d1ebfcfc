"""One BLAS thread, because the engine's matrix products are small.

A product of a million multiply-adds takes some 20 us; waking a second thread costs as much, and
where that thread's core is busy with other work each product waits for it. OpenBLAS reads its
environment variable only while it is being loaded, which by now has happened, so the setting is
made through the library's own function (OpenBLAS, `openblas_set_num_threads`; NumPy's wheels carry
it with a prefix and, where integers have 64 bits, a suffix).
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np

_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


@cache
def use_one_thread() -> bool:
    """Set the OpenBLAS that NumPy's wheel carries to one thread for this process.

    Returns:
        Whether it was set. False, and nothing is changed, where NumPy was built with another BLAS
        or another layout; results never depend on it, only speed does.
    """
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".libs", package / ".dylibs"):
        for library in sorted(folder.glob("*openblas*")):
            try:
                # already loaded by NumPy: this finds that very copy
                loaded = ctypes.CDLL(str(library))
            except OSError:
                continue
            for name in _SETTERS:
                setter = getattr(loaded, name, None)
                if setter is not None:
                    setter.argtypes, setter.restype = [ctypes.c_int], None
                    setter(1)
                    return True
    return False
