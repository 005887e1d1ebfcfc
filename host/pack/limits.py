"""Bounds on what a packed file may declare, and so on what may be packed.

Far above any network for an embedded accelerator (ResNet-152 at 224 x 224: 155 layers, 3.2 million
elements a tensor, 1.1e10 products; VGG-19: 1.4e8 weights, 2e10 products), so that a hostile file
cannot ask its reader for endless memory or time.
"""

from __future__ import annotations

import numpy as np

MAX_LAYERS = 4096
MAX_SIDE = 1 << 16
MAX_TENSOR_ELEMENTS = 1 << 24
MAX_TOTAL_ELEMENTS = 1 << 28
MAX_PRODUCTS = 1 << 37
MAX_WEIGHTS = 1 << 28
MAX_KERNEL = 7
MAX_STRIDE = 4
MAX_PADDING = 16
MAX_ZERO = float(1 << 24)

# a scale is used in float32 by the fast paths: it must be a normal number there
MIN_SCALE = float(np.finfo(np.float32).tiny)
MAX_SCALE = float(np.finfo(np.float32).max)
