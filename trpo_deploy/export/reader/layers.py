"""torch modules as plain layers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from trpo_deploy.errors import ExportError
from trpo_deploy.export.policy.layers import Activation, Conv, Flatten, Layer, Linear
from trpo_deploy.sb3.activations import ACTIVATIONS
from trpo_deploy.spec.spaces import Array


def read_layers(modules: Iterable[nn.Module]) -> tuple[Layer, ...]:
    """Modules that run one after another, without those that do nothing at inference.

    Raises:
        ExportError: A module is not supported, or a weight is not finite.
    """
    kept = (each for each in modules if not isinstance(each, (nn.Identity, nn.Dropout)))
    return tuple(_read_layer(module) for module in kept)


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


def _read_layer(module: nn.Module) -> Layer:
    if isinstance(module, nn.Linear):
        return read_linear(module)
    if isinstance(module, nn.Flatten):
        return Flatten()
    if isinstance(module, nn.Conv2d):
        return _read_conv(module)
    # By its exact class: a subclass may compute something else.
    name = type(module).__name__
    if name not in ACTIVATIONS or type(module) is not getattr(nn, name):
        raise ExportError(
            f"the layer {module} cannot be exported; supported: Linear, Conv2d, "
            f"{', '.join(ACTIVATIONS)}"
        )
    return Activation(name, tuple(float(getattr(module, each)) for each in ACTIVATIONS[name]))


def _read_conv(module: nn.Conv2d) -> Conv:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise ExportError(
            f"the layer {module} cannot be exported; only zero padding given as numbers is "
            "supported"
        )
    stride, padding, dilation = (
        (int(pair[0]), int(pair[1])) for pair in (module.stride, module.padding, module.dilation)
    )
    bias = _bias(module.bias, module.out_channels)
    return Conv(read_array(module.weight), bias, stride, padding, dilation, module.groups)


def _bias(bias: torch.Tensor | None, size: int) -> Array:
    return np.zeros(size, np.float32) if bias is None else read_array(bias)
