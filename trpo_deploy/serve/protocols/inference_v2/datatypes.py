"""The protocol's tensor datatypes and their numpy dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from trpo_deploy.serve.protocols.tensor import DTYPES

_NUMPY_NAMES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
DTYPE_OF: dict[str, np.dtype[Any]] = {name: DTYPES[numpy] for name, numpy in _NUMPY_NAMES.items()}
DATATYPE_OF = {dtype: name for name, dtype in DTYPE_OF.items()}
