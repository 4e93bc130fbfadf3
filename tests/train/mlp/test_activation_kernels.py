"""Each activation has torch's value and derivative, in torch, NumPy, ONNX and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import parser
from torch import nn

from tests.train.mlp.policies import ACTIVATIONS
from trpo_deploy.train.mlp import step_arithmetic
from trpo_deploy.train.mlp.activation_kernels import ActivationKernels, activation_kernels
from trpo_deploy.train.mlp.step_numpy import StepLayer

# None of them is where a slope jumps: at 0 for ReLU, at -3 and 3 for Hardswish.
POINTS = np.concatenate([np.linspace(-100, 100, 1000), np.linspace(-8, 8, 1000)], dtype=np.float32)


def in_onnx(kernels: ActivationKernels) -> tuple[Any, Any]:
    """Value and derivative by the ONNX text."""
    lines = (*kernels.onnx, *kernels.onnx_slope)
    body = "\n".join(line.format(z="z", h="h", slope="slope") for line in lines)
    graph = f"""<ir_version: 8, opset_import: ["" : 13]>
activation (float[n] z) => (float[n] h, float[n] slope) {{
{body}
}}"""
    model = parser.parse_model(graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    value, slope = session.run(None, {"z": POINTS})
    return value, slope


def in_torch(kernels: ActivationKernels) -> tuple[Any, Any]:
    """Value and derivative by the functions for torch."""
    value, change = torch.from_numpy(POINTS.copy()), torch.ones(len(POINTS))
    kernels.apply(value)
    slope = value if kernels.slope is None else kernels.slope(torch.from_numpy(POINTS.copy()))
    kernels.backward(change, slope)
    return value.numpy(), change.numpy()


def compiled(kernels: ActivationKernels) -> Any:
    """Value by the compiled functions, or NumPy's where these do not have the activation."""
    if kernels.name not in step_arithmetic.compiled_activations:
        return kernels.array(POINTS.copy())
    assert step_arithmetic.compiled is not None
    identity = StepLayer(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    layers = [identity._replace(activation=kernels), identity]
    forward = step_arithmetic.compiled.forward_pass(layers, len(POINTS))
    return forward(POINTS[:, None])[1].ravel()


@pytest.mark.parametrize("make", ACTIVATIONS, ids=lambda make: repr(make()))
def test_values_and_derivatives_equal_torchs(make: Callable[[], nn.Module]) -> None:
    kernels = activation_kernels(make())
    assert kernels is not None
    z = torch.from_numpy(POINTS.astype(np.float64)).requires_grad_()
    expected = make()(z)
    (derivative,) = torch.autograd.grad(expected.sum(), z)
    (torchs, slope), (onnxs, onnx_slope) = in_torch(kernels), in_onnx(kernels)
    for values in (torchs, onnxs, kernels.array(POINTS.copy()), compiled(kernels)):
        # float32: in the tail of SiLU an error of 6e-8 in its factor counts twentyfold.
        np.testing.assert_allclose(values, expected.detach().numpy(), rtol=1e-5, atol=3e-6)
    for slopes in (slope, onnx_slope):
        np.testing.assert_allclose(slopes, derivative.numpy(), rtol=1e-5, atol=1e-5)  # likewise
