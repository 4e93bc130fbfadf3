"""Forward pass of a dense network and the products with its Jacobian, without autograd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trpo_deploy.train.mlp.activation_kernels import ActivationKernels
from trpo_deploy.train.mlp.dense_network import DenseNetwork

MAX_SLOPES = 2**25
"""Maximum number of slopes that :meth:`DenseProducts.keep_slopes` stores: 128 MiB."""


@dataclass(eq=False)
class _Layer:
    weight: Tensor
    weight_t: Tensor
    bias: Tensor
    activation: ActivationKernels | None
    value: Tensor
    change: Tensor
    change_t: Tensor
    inputs: Tensor | None
    """Inputs of an activation whose derivative needs them; its slopes once these are used."""
    has_slopes: bool = False

    def activate(self) -> None:
        """Apply the activation to the values."""
        if self.activation is None:
            return
        if self.inputs is not None:
            self.inputs.copy_(self.value)
            self.has_slopes = False
        self.activation.apply(self.value)

    def multiply_by_slope(self, gradient: Tensor) -> None:
        """Multiply a gradient by the activation's derivative, in place."""
        if self.activation is None:
            return
        if self.inputs is None:
            self.activation.backward(gradient, self.value)
            return
        # Only here: the tries of a line search need no derivatives.
        if not self.has_slopes and self.activation.slope is not None:
            self.inputs.copy_(self.activation.slope(self.inputs))
            self.has_slopes = True
        self.activation.backward(gradient, self.inputs)


class DenseProducts:
    """A network's forward pass and the products with its Jacobian, in preallocated memory.

    Memory allocated for each product would cost the time in which the system provides, zeroes and
    reclaims its pages. The next call overwrites what a method returns. MKL takes up to four times
    as long for a product with few columns as for its transpose, so the transpose is computed for
    fewer than 8 outputs of a layer and fewer than 24 inputs of the first layer. There it was
    faster for nearly all sizes.

    Args:
        network: Its parameters may change in value, but must stay at their place in memory.
        rows: Size of each batch.
    """

    def __init__(self, network: DenseNetwork, rows: int) -> None:
        self._layers = []
        self._slopes: list[Tensor] = []
        for linear, activation in zip(network.linears, (*network.activations, None), strict=True):
            weight, bias = linear.weight.detach(), linear.bias.detach()
            value, change = (_matrix(rows, weight) for _ in range(2))
            needs_inputs = activation is not None and activation.slope is not None
            inputs = torch.empty_like(value) if needs_inputs else None
            self._layers.append(
                _Layer(weight, weight.t(), bias, activation, value, change, change.t(), inputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The output, ``(rows, outputs)``, for ``x``, ``(rows, features)``."""
        return self.forward_with_latent(x)[1]

    def forward_with_latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input and output of the last layer."""
        self._slopes = []
        latent = x
        for layer in self._layers:
            torch.addmm(layer.bias, x, layer.weight_t, out=layer.value)
            latent, x = x, layer.value
            layer.activate()
        return latent, x

    def keep_slopes(self) -> bool:
        """Store slopes that make products faster until the next :meth:`forward`.

        The slope of an output with respect to the input of an activation is the same for all
        directions. With slopes, a sum for each sample replaces the product with the weight of a
        hidden layer. They pay off for ten or more products.

        Returns:
            Whether slopes are stored. They are not where they would save no time: for narrow
            layers, for more than :data:`MAX_SLOPES` slopes and on a GPU.
        """
        *hidden, output = self._layers
        outputs, rows = len(output.weight), len(output.value)
        widths = [len(layer.weight) for layer in hidden]
        # In NumPy, a layer 16 times as wide as the number of outputs takes half of the time, one
        # 80 times as wide a tenth. At 10 times the slopes take the time that they save.
        narrow = 16 * outputs > min(widths[1:], default=0)
        large = outputs * rows * sum(widths[:-1]) > MAX_SLOPES
        if narrow or large or output.value.device.type != "cpu":
            return False
        self._slopes = [output.value.new_empty(outputs, rows, width) for width in widths[:-1]]
        for i, weight in enumerate(output.weight):
            slope = hidden[-1].change.copy_(weight)
            for index in range(len(hidden) - 1, -1, -1):
                layer = hidden[index]
                layer.multiply_by_slope(slope)
                if index > 0:
                    slope = torch.mm(slope, layer.weight, out=self._slopes[index - 1][i])
        return True

    def jacobian_product(self, x: Tensor, direction: Sequence[Tensor]) -> Tensor:
        """``J v``: the change of the output when the parameters move in a direction.

        Args:
            x: The input of the last :meth:`forward`.
            direction: ``v``, shaped as the network's parameters.

        Returns:
            A tensor of the output's shape.
        """
        moved: Tensor | None = None
        parts = []
        for index, layer in enumerate(self._layers):
            weight, bias = direction[2 * index], direction[2 * index + 1]
            torch.addmm(bias, x, weight.t(), out=layer.change)
            x = layer.value
            if index < len(self._slopes):
                slopes = self._slopes[index].numpy()
                parts.append(np.einsum("orw,rw->or", slopes, layer.change.numpy()))
                continue
            if moved is not None:
                layer.change.addmm_(moved, layer.weight_t)
            moved = layer.change
            layer.multiply_by_slope(moved)
        assert moved is not None
        for part in parts:
            moved += torch.from_numpy(part).t()
        return moved

    def transposed_product(self, x: Tensor, output: Tensor, gradients: Sequence[Tensor]) -> None:
        """``J^T u``: the gradient of ``sum(output * u)``, written into ``gradients``.

        Args:
            x: The input of the last :meth:`forward`.
            output: ``u``, of the output's shape.
            gradients: Tensors shaped as the network's parameters, overwritten.
        """
        change, change_t = output, output.t()
        for index in range(len(self._layers) - 1, 0, -1):
            layer, before = self._layers[index], self._layers[index - 1]
            torch.mm(change_t, before.value, out=gradients[2 * index])
            torch.sum(change, dim=0, out=gradients[2 * index + 1])
            if index <= len(self._slopes):
                _weighted_sum(self._slopes[index - 1], output, before.change)
            else:
                # For one output the outer product is the same, and several times faster.
                multiply = torch.mul if change.shape[1] == 1 else torch.mm
                multiply(change, layer.weight, out=before.change)
                before.multiply_by_slope(before.change)
            change, change_t = before.change, before.change_t
        if x.shape[1] < 24:
            gradients[0].copy_(torch.mm(x.t(), change).t())
        else:
            torch.mm(change_t, x, out=gradients[0])
        torch.sum(change, dim=0, out=gradients[1])


def _weighted_sum(slopes: Tensor, weights: Tensor, out: Tensor) -> None:
    """Sum ``(outputs, rows, width)`` over the outputs, with weights ``(rows, outputs)``."""
    columns = torch.split(weights, 1, dim=1)
    torch.mul(slopes[0], columns[0], out=out)
    for slope, column in zip(slopes[1:], columns[1:], strict=True):
        out.addcmul_(slope, column)


def _matrix(rows: int, weight: Tensor) -> Tensor:
    """Memory for a layer's output, ``(rows, outputs)``; column-major if the columns are few."""
    outputs = len(weight)
    few = 1 < outputs < 8
    return weight.new_empty(outputs, rows).t() if few else weight.new_empty(rows, outputs)
