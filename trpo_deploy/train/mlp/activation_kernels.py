"""The activations of the fast path: value and derivative in torch, NumPy and ONNX.

With ``z`` the input and ``h`` the value, the derivative of some follows from ``h`` (tanh), that of
the others needs ``z`` (SiLU).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True)
class ActivationKernels:
    """An element-wise function and its derivative."""

    name: str
    """Name for the compiled functions."""
    apply: Callable[[Tensor], object]
    """In place: from ``z`` to the value."""
    backward: Callable[[Tensor, Tensor], object]
    """In place: multiply a gradient by the derivative, given the value or :attr:`slope`."""
    slope: Callable[[Tensor], Tensor] | None
    """From ``z`` to the derivative; None if it follows from the value."""
    array: Callable[[Array], Array]
    """From ``z`` to the value in NumPy; may overwrite ``z``."""
    onnx: tuple[str, ...]
    """ONNX text that computes ``{h}``, the value, from ``{z}``."""
    onnx_slope: tuple[str, ...]
    """ONNX text that computes ``{slope}``, the derivative, from ``{h}`` and ``{z}``.

    It may use what :attr:`onnx` computed on the way.
    """


def activation_kernels(module: nn.Module) -> ActivationKernels | None:
    """Kernels of a torch activation, or None if the fast path does not have it."""
    make = _KERNELS.get(type(module))
    return None if make is None else make(module)


def _tanh(_: nn.Module) -> ActivationKernels:
    # One kernel instead of three, for the most frequent activation.
    tanh_backward = torch.ops.aten.tanh_backward.grad_input
    return ActivationKernels(
        name="Tanh",
        apply=_tanh_,
        backward=lambda g, h: tanh_backward(g, h, grad_input=g),
        slope=None,
        array=lambda z: np.tanh(z, out=z),
        onnx=("{h} = Tanh({z})",),
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
        name="ReLU",
        apply=torch.relu_,
        backward=lambda g, h: g.mul_(h > 0),
        slope=None,
        array=lambda z: np.maximum(z, np.float32(0), out=z),
        onnx=("{h} = Relu({z})",),
        onnx_slope=("{slope} = Sign({h})",),
    )


def _sigmoid(_: nn.Module) -> ActivationKernels:
    # (1 + tanh(z / 2)) / 2 does not overflow.
    half = np.float32(0.5)
    return ActivationKernels(
        name="Sigmoid",
        apply=torch.sigmoid_,
        backward=lambda g, h: g.mul_(h).mul_(1 - h),
        slope=None,
        array=lambda z: half * (1 + np.tanh(half * z)),
        onnx=("{h} = Sigmoid({z})",),
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
        name="ELU",
        apply=lambda z: nn.functional.elu_(z, alpha),
        backward=lambda g, h: g.mul_(torch.where(h > 0, 1.0, h + alpha)),
        slope=None,
        array=lambda z: np.where(z > 0, z, np.float32(alpha) * np.expm1(np.minimum(z, 0))),
        onnx=(f"{{h}} = Elu<alpha = {alpha!r}>({{z}})",),
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
        name="LeakyReLU",
        apply=lambda z: nn.functional.leaky_relu_(z, leak),
        backward=lambda g, h: g.mul_(torch.where(h > 0, 1.0, leak)),
        slope=None,
        array=lambda z: np.where(z > 0, z, np.float32(leak) * z),
        onnx=(f"{{h}} = LeakyRelu<alpha = {leak!r}>({{z}})",),
        onnx_slope=(
            f"{{slope}}_below = Constant<value_float = {leak!r}>()",
            *_ONNX_ONE_ABOVE_ZERO,
        ),
    )


def _from_input(
    name: str, function: Callable[[Tensor], Tensor], onnx: str, onnx_slope: str
) -> ActivationKernels:
    """Kernels of an activation whose derivative needs ``z``; torch knows it."""

    @torch.enable_grad()
    def slope(z: Tensor) -> Tensor:
        z = z.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(function(z).sum(), z)
        return derivative

    return ActivationKernels(
        name=name,
        apply=lambda z: z.copy_(function(z)),
        backward=Tensor.mul_,
        slope=slope,
        array=lambda z: function(torch.from_numpy(z)).numpy(),
        onnx=_lines(onnx),
        onnx_slope=_lines(onnx_slope),
    )


def _lines(text: str) -> tuple[str, ...]:
    """Lines of ONNX text, in which ``float(x)`` is short for a constant."""
    constant = re.compile(r"float\((.+?)\)")
    return tuple(
        constant.sub(r"Constant<value_float = \1>()", line.strip())
        for line in text.strip().splitlines()
    )


def _silu(_: nn.Module) -> ActivationKernels:
    return _from_input(
        "SiLU",
        nn.functional.silu,
        """
        {h}_sigmoid = Sigmoid({z})
        {h} = Mul({z}, {h}_sigmoid)
        """,
        # s + h (1 - s), with s the sigmoid
        """
        {slope}_product = Mul({h}, {h}_sigmoid)
        {slope}_sum = Add({h}, {h}_sigmoid)
        {slope} = Sub({slope}_sum, {slope}_product)
        """,
    )


def _gelu(module: Any) -> ActivationKernels:
    if module.approximate == "tanh":
        return _gelu_tanh()
    # z P(z), with P and p the normal distribution and its density
    return _from_input(
        "GELU",
        nn.functional.gelu,
        f"""
        {{h}}_root = float({math.sqrt(0.5)!r})
        {{h}}_half = float(0.5)
        {{h}}_scaled = Mul({{z}}, {{h}}_root)
        {{h}}_erf = Erf({{h}}_scaled)
        {{h}}_part = Mul({{h}}_erf, {{h}}_half)
        {{h}}_normal = Add({{h}}_part, {{h}}_half)
        {{h}} = Mul({{z}}, {{h}}_normal)
        """,
        # P + z p
        f"""
        {{slope}}_factor = float({1 / math.sqrt(2 * math.pi)!r})
        {{slope}}_square = Mul({{h}}_scaled, {{h}}_scaled)
        {{slope}}_exponent = Neg({{slope}}_square)
        {{slope}}_bell = Exp({{slope}}_exponent)
        {{slope}}_density = Mul({{slope}}_bell, {{slope}}_factor)
        {{slope}}_rest = Mul({{z}}, {{slope}}_density)
        {{slope}} = Add({{h}}_normal, {{slope}}_rest)
        """,
    )


def _gelu_tanh() -> ActivationKernels:
    # z s, with s = (1 + tanh u) / 2 = sigmoid(2 u), and 2 u = a z + b z^3
    a = 2 * math.sqrt(2 / math.pi)
    b = 0.044715 * a
    return _from_input(
        "GELU, tanh",
        partial(nn.functional.gelu, approximate="tanh"),
        f"""
        {{h}}_a = float({a!r})
        {{h}}_b = float({b!r})
        {{h}}_square = Mul({{z}}, {{z}})
        {{h}}_part = Mul({{h}}_square, {{h}}_b)
        {{h}}_factor = Add({{h}}_part, {{h}}_a)
        {{h}}_argument = Mul({{z}}, {{h}}_factor)
        {{h}}_sigmoid = Sigmoid({{h}}_argument)
        {{h}} = Mul({{z}}, {{h}}_sigmoid)
        """,
        # s + h (1 - s) (a + 3 b z^2)
        """
        {slope}_two = float(2.0)
        {slope}_more = Mul({h}_part, {slope}_two)
        {slope}_inner = Add({h}_factor, {slope}_more)
        {slope}_product = Mul({h}, {h}_sigmoid)
        {slope}_less = Sub({h}, {slope}_product)
        {slope}_rest = Mul({slope}_less, {slope}_inner)
        {slope} = Add({h}_sigmoid, {slope}_rest)
        """,
    )


def _softplus(module: Any) -> ActivationKernels | None:
    if (module.beta, module.threshold) != (1.0, 20.0):
        return None
    return _from_input(
        "Softplus", nn.functional.softplus, "{h} = Softplus({z})", "{slope} = Sigmoid({z})"
    )


def _mish(_: nn.Module) -> ActivationKernels:
    return _from_input(
        "Mish",
        nn.functional.mish,
        """
        {h}_softplus = Softplus({z})
        {h}_tanh = Tanh({h}_softplus)
        {h} = Mul({z}, {h}_tanh)
        """,
        # t + z (1 - t^2) sigmoid(z), with t the tanh
        """
        {slope}_sigmoid = Sigmoid({z})
        {slope}_product = Mul({h}, {h}_tanh)
        {slope}_less = Sub({z}, {slope}_product)
        {slope}_rest = Mul({slope}_less, {slope}_sigmoid)
        {slope} = Add({h}_tanh, {slope}_rest)
        """,
    )


def _hardswish(_: nn.Module) -> ActivationKernels:
    return _from_input(
        "Hardswish",
        nn.functional.hardswish,
        f"""
        {{h}}_gate = HardSigmoid<alpha = {1 / 6!r}, beta = 0.5>({{z}})
        {{h}} = Mul({{z}}, {{h}}_gate)
        """,
        # z / 3 + 1 / 2 where the gate is between 0 and 1, else the gate
        f"""
        {{slope}}_zero = float(0.0)
        {{slope}}_one = float(1.0)
        {{slope}}_third = float({1 / 3!r})
        {{slope}}_half = float(0.5)
        {{slope}}_part = Mul({{z}}, {{slope}}_third)
        {{slope}}_inner = Add({{slope}}_part, {{slope}}_half)
        {{slope}}_above = Greater({{h}}_gate, {{slope}}_zero)
        {{slope}}_below = Less({{h}}_gate, {{slope}}_one)
        {{slope}}_between = And({{slope}}_above, {{slope}}_below)
        {{slope}} = Where({{slope}}_between, {{slope}}_inner, {{h}}_gate)
        """,
    )


_KERNELS: dict[type[nn.Module], Callable[[nn.Module], ActivationKernels | None]] = {
    nn.ELU: _elu,
    nn.GELU: _gelu,
    nn.Hardswish: _hardswish,
    nn.LeakyReLU: _leaky_relu,
    nn.Mish: _mish,
    nn.ReLU: _relu,
    nn.Sigmoid: _sigmoid,
    nn.SiLU: _silu,
    nn.Softplus: _softplus,
    nn.Tanh: _tanh,
}
