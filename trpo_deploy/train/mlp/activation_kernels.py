"""The activations of the fast path: value and derivative in torch, NumPy and ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True)
class ActivationKernels:
    """An element-wise function whose derivative follows from its value."""

    apply: Callable[[Tensor], object]
    """In place: from ``z`` to the value."""
    backward: Callable[[Tensor, Tensor], object]
    """In place: multiply a gradient by the derivative, given the value."""
    array: Callable[[Array], Array]
    """From ``z`` to the value in NumPy; may overwrite ``z``."""
    onnx: str
    """ONNX operator from ``z`` to the value, with its attributes."""
    onnx_slope: tuple[str, ...]
    """ONNX text that computes ``{slope}``, the derivative, from ``{h}``, the value."""


def activation_kernels(module: nn.Module) -> ActivationKernels | None:
    """Kernels of a torch activation, or None if the fast path does not have it."""
    make = _KERNELS.get(type(module))
    return None if make is None else make(module)


def _tanh(_: nn.Module) -> ActivationKernels:
    # One kernel instead of three, for the most frequent activation.
    tanh_backward = torch.ops.aten.tanh_backward.grad_input
    return ActivationKernels(
        apply=_tanh_,
        backward=lambda g, h: tanh_backward(g, h, grad_input=g),
        array=lambda z: np.tanh(z, out=z),
        onnx="Tanh",
        onnx_slope=(
            "{slope}_one = Constant<value_float = 1.0>()",
            "{slope}_less = Mul({h}, {h})",
            "{slope} = Sub({slope}_one, {slope}_less)",
        ),
    )


def _tanh_(z: Tensor) -> None:
    # NumPy's tanh takes a sixth of torch's time, and tanh is half of a forward pass.
    if z.device.type == "cpu":
        np.tanh(z.numpy(), out=z.numpy())
    else:
        z.tanh_()


def _relu(_: nn.Module) -> ActivationKernels:
    return ActivationKernels(
        apply=torch.relu_,
        backward=lambda g, h: g.mul_(h > 0),
        array=lambda z: np.maximum(z, np.float32(0), out=z),
        onnx="Relu",
        onnx_slope=("{slope} = Sign({h})",),
    )


def _sigmoid(_: nn.Module) -> ActivationKernels:
    # (1 + tanh(z / 2)) / 2 does not overflow.
    half = np.float32(0.5)
    return ActivationKernels(
        apply=torch.sigmoid_,
        backward=lambda g, h: g.mul_(h).mul_(1 - h),
        array=lambda z: half * (1 + np.tanh(half * z)),
        onnx="Sigmoid",
        onnx_slope=("{slope}_less = Mul({h}, {h})", "{slope} = Sub({h}, {slope}_less)"),
    )


_ONNX_ONE_ABOVE_ZERO = (
    "{slope}_zero = Constant<value_float = 0.0>()",
    "{slope}_one = Constant<value_float = 1.0>()",
    "{slope}_above = Greater({h}, {slope}_zero)",
    "{slope} = Where({slope}_above, {slope}_one, {slope}_below)",
)


def _elu(module: Any) -> ActivationKernels | None:
    alpha = float(module.alpha)
    if not alpha >= 0:  # the value's sign no longer tells the sign of z
        return None
    return ActivationKernels(
        apply=lambda z: nn.functional.elu_(z, alpha),
        backward=lambda g, h: g.mul_(torch.where(h > 0, 1.0, h + alpha)),
        array=lambda z: np.where(z > 0, z, np.float32(alpha) * np.expm1(np.minimum(z, 0))),
        onnx=f"Elu<alpha = {alpha!r}>",
        onnx_slope=(
            f"{{slope}}_alpha = Constant<value_float = {alpha!r}>()",
            "{slope}_below = Add({h}, {slope}_alpha)",
            *_ONNX_ONE_ABOVE_ZERO,
        ),
    )


def _leaky_relu(module: Any) -> ActivationKernels | None:
    leak = float(module.negative_slope)
    if not leak >= 0:  # the value's sign no longer tells the sign of z
        return None
    return ActivationKernels(
        apply=lambda z: nn.functional.leaky_relu_(z, leak),
        backward=lambda g, h: g.mul_(torch.where(h > 0, 1.0, leak)),
        array=lambda z: np.where(z > 0, z, np.float32(leak) * z),
        onnx=f"LeakyRelu<alpha = {leak!r}>",
        onnx_slope=(
            f"{{slope}}_below = Constant<value_float = {leak!r}>()",
            *_ONNX_ONE_ABOVE_ZERO,
        ),
    )


_KERNELS: dict[type[nn.Module], Callable[[nn.Module], ActivationKernels | None]] = {
    nn.ELU: _elu,
    nn.LeakyReLU: _leaky_relu,
    nn.ReLU: _relu,
    nn.Sigmoid: _sigmoid,
    nn.Tanh: _tanh,
}
