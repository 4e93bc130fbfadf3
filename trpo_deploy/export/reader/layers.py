"""torch modules as plain layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import nn

from trpo_deploy.errors import ExportError
from trpo_deploy.export.policy.layers import (
    Activation,
    Affine,
    Conv,
    Flatten,
    Layer,
    Linear,
    Standardize,
)
from trpo_deploy.sb3.activations import ACTIVATIONS
from trpo_deploy.spec.spaces import Array


def read_layers(modules: Iterable[nn.Module]) -> tuple[Layer, ...]:
    """Modules that run one after another, without those that do nothing at inference.

    Raises:
        ExportError: A module is not supported, or a weight is not finite.
    """
    return tuple(layer for module in modules for layer in _read_module(module))


def read_linear(module: nn.Module) -> Linear:
    """A dense layer; its bias is zero if the module has none.

    Raises:
        ExportError: A weight is not finite.
    """
    assert isinstance(module, nn.Linear)
    return Linear(read_array(module.weight), _bias(module.bias, module.out_features))


def read_array(tensor: torch.Tensor) -> Array:
    """A tensor as float32.

    Raises:
        ExportError: A number is not finite.
    """
    array: Array = tensor.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(array).all():
        raise ExportError("the policy has weights that are NaN or infinite; it cannot be exported")
    return array


def _read_module(module: nn.Module) -> Iterable[Layer]:
    kind = type(module)
    if isinstance(module, nn.Sequential) and kind.forward is nn.Sequential.forward:
        return read_layers(module)
    if isinstance(module, (nn.Identity, nn.Dropout)):
        return ()
    if isinstance(module, nn.Linear):
        return (read_linear(module),)
    if isinstance(module, nn.Flatten):
        return (Flatten(),)
    if isinstance(module, nn.Conv2d):
        return (_read_conv(module),)
    # By their exact class: a subclass may compute something else.
    name = kind.__name__
    if kind is getattr(nn, name, None):
        if name in _NORMS:
            return _NORMS[name](module)
        if name in ACTIVATIONS:
            return (_read_activation(module, name),)
    supported = ("Linear", "Conv2d", *_NORMS, "Dropout", *ACTIVATIONS)
    raise ExportError(
        f"the layer {_line(module)} cannot be exported; supported: {', '.join(supported)}"
    )


_ONLY: Mapping[str, Mapping[str, object]] = {
    "GELU": {"approximate": "none"},
    "Softplus": {"beta": 1, "threshold": 20},
}
"""Attributes of activation functions that a graph assumes to have these values."""


def _read_activation(module: nn.Module, name: str) -> Activation:
    expected = _ONLY.get(name, {})
    if any(getattr(module, each) != value for each, value in expected.items()):
        only = ", ".join(f"{each}={value!r}" for each, value in expected.items())
        raise ExportError(f"the layer {_line(module)} cannot be exported; supported: {only}")
    return Activation(name, tuple(float(getattr(module, each)) for each in ACTIVATIONS[name]))


def _read_conv(module: nn.Conv2d) -> Conv:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise ExportError(
            f"the layer {_line(module)} cannot be exported; only zero padding given as numbers is "
            "supported"
        )
    stride, padding, dilation = (
        (int(pair[0]), int(pair[1])) for pair in (module.stride, module.padding, module.dilation)
    )
    bias = _bias(module.bias, module.out_channels)
    return Conv(read_array(module.weight), bias, stride, padding, dilation, module.groups)


def _bias(bias: torch.Tensor | None, size: int) -> Array:
    return np.zeros(size, np.float32) if bias is None else read_array(bias)


def _read_batch_norm(module: nn.BatchNorm1d) -> Iterable[Layer]:
    """With the statistics of the training it is affine; computed as in torch."""
    mean, var = module.running_mean, module.running_var
    if mean is None or var is None:
        raise ExportError(
            f"the layer {_line(module)} cannot be exported: without running statistics, its result "
            "for a row depends on the other rows of the batch"
        )
    weight = 1.0 if module.weight is None else read_array(module.weight)
    factor = weight / np.sqrt(read_array(var) + np.float32(module.eps))
    shift = _bias(module.bias, module.num_features) - read_array(mean) * factor
    return (Affine(factor, shift),)


def _read_layer_norm(module: nn.LayerNorm) -> Iterable[Layer]:
    width = _width(module)
    yield Standardize(width, module.eps, subtracts_mean=True)
    if module.elementwise_affine:
        yield Affine(read_array(module.weight), _bias(module.bias, width))


def _read_rms_norm(module: nn.RMSNorm) -> Iterable[Layer]:
    width = _width(module)
    epsilon = torch.finfo(torch.float32).eps if module.eps is None else module.eps
    yield Standardize(width, epsilon, subtracts_mean=False)
    if module.elementwise_affine:
        yield Affine(read_array(module.weight), _bias(None, width))


_NORMS: Mapping[str, Callable[[Any], Iterable[Layer]]] = {
    "BatchNorm1d": _read_batch_norm,
    "LayerNorm": _read_layer_norm,
    "RMSNorm": _read_rms_norm,
}
"""By the name of the class in ``torch.nn``; torch before 2.4 has no RMSNorm."""


def _width(module: nn.LayerNorm | nn.RMSNorm) -> int:
    if len(module.normalized_shape) != 1:
        raise ExportError(
            f"the layer {_line(module)} cannot be exported: it normalises over several axes; "
            "expected the last axis alone"
        )
    return int(module.normalized_shape[0])


def _line(module: nn.Module) -> str:
    """A module in one line, for messages."""
    return shorten(str(module), 100, placeholder=" ...")
