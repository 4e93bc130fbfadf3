"""Forward pass of a dense network and the products with its Jacobian, without autograd."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trpo_deploy.train.mlp.dense_layers import layer_products
from trpo_deploy.train.mlp.dense_network import DenseNetwork

MAX_SLOPES = 2**25
"""Maximum number of slopes that :meth:`DenseProducts.keep_slopes` stores: 128 MiB."""


class DenseProducts:
    """A network's forward pass and the products with its Jacobian, in preallocated memory.

    Memory allocated for each product would cost the time in which the system provides, zeroes and
    reclaims its pages. The next call overwrites what a method returns.

    Args:
        network: Its parameters may change in value, but must stay at their place in memory.
        rows: Size of each batch.
    """

    def __init__(self, network: DenseNetwork, rows: int) -> None:
        self._layers = [layer_products(layer, rows) for layer in network.layers]
        self._slopes: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """The output, ``(rows, outputs)``, for ``x``, ``(rows, features)``."""
        return self.forward_with_latent(x)[1]

    def forward_with_latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input and output of the last layer."""
        self._slopes = []
        latent = x
        for layer in self._layers:
            layer.forward(x)
            latent, x = x, layer.value
            layer.activate()
        return latent, x

    def keep_slopes(self, x: Tensor) -> bool:
        """Store slopes that make products faster until the next :meth:`forward`.

        The slope of an output with respect to the input of an activation is the same for all
        directions. With slopes, a sum for each sample replaces the product with the weight of a
        hidden layer. They pay off for ten or more products.

        Args:
            x: The input of the last :meth:`forward`.

        Returns:
            Whether slopes are stored. They are not where they would save no time: for narrow
            layers, for more than :data:`MAX_SLOPES` slopes and on a GPU.
        """
        *hidden, output = self._layers
        outputs, rows = output.width, len(output.value)
        widths = [layer.width for layer in hidden]
        # In NumPy, a layer 16 times as wide as the number of outputs takes half of the time, one
        # 80 times as wide a tenth. At 10 times the slopes take the time that they save.
        narrow = 16 * outputs > min(widths[1:], default=0)
        large = outputs * rows * sum(widths[:-1]) > MAX_SLOPES
        if narrow or large or output.value.device.type != "cpu":
            return False
        self._slopes = [output.value.new_empty(outputs, rows, width) for width in widths[:-1]]
        inputs = self._inputs(x)
        for i, weight in enumerate(output.weight):
            slope = hidden[-1].change.copy_(weight)
            for index in range(len(hidden) - 1, -1, -1):
                layer = hidden[index]
                layer.multiply_by_slope(slope)
                if index > 0:
                    slope = layer.backward(inputs[index], slope, self._slopes[index - 1][i])
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
        for index, (layer, inputs) in enumerate(zip(self._layers, self._inputs(x), strict=True)):
            layer.move(inputs, moved, direction[2 * index], direction[2 * index + 1])
            if index < len(self._slopes):
                slopes = self._slopes[index].numpy()
                parts.append(np.einsum("orw,rw->or", slopes, layer.change.numpy()))
                continue
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
        inputs = self._inputs(x)
        change = output
        for index in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[index]
            of_weight, of_bias = gradients[2 * index], gradients[2 * index + 1]
            layer.parameter_gradients(inputs[index], change, of_weight, of_bias)
            if index == 0:
                return
            before = self._layers[index - 1]
            if index <= len(self._slopes):
                _weighted_sum(self._slopes[index - 1], output, before.change)
            else:
                layer.backward(inputs[index], change, before.change)
                before.multiply_by_slope(before.change)
            change = before.change

    def _inputs(self, x: Tensor) -> list[Tensor]:
        """Inputs of each layer."""
        return [x, *(layer.value for layer in self._layers[:-1])]


def _weighted_sum(slopes: Tensor, weights: Tensor, out: Tensor) -> None:
    """Sum ``(outputs, rows, width)`` over the outputs, with weights ``(rows, outputs)``."""
    columns = torch.split(weights, 1, dim=1)
    torch.mul(slopes[0], columns[0], out=out)
    for slope, column in zip(slopes[1:], columns[1:], strict=True):
        out.addcmul_(slope, column)
