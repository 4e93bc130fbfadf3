"""Activation functions that a policy may have: the one list that reader and exporter share."""

from __future__ import annotations

from collections.abc import Mapping

ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "CELU": ("alpha",),
    "ELU": ("alpha",),
    "GELU": (),
    "Hardsigmoid": (),
    "Hardswish": (),
    "Hardtanh": ("min_val", "max_val"),
    "LeakyReLU": ("negative_slope",),
    "LogSigmoid": (),
    "Mish": (),
    "ReLU": (),
    "ReLU6": ("min_val", "max_val"),
    "SELU": (),
    "SiLU": (),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
}
"""Class name in ``torch.nn`` -> the module's attributes that are parameters of the function."""
