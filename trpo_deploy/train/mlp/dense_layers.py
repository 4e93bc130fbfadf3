"""Forward pass and derivatives of one layer, in preallocated memory."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from trpo_deploy.train.mlp.dense_network import DenseLayer

_norm_backward = torch.ops.aten.native_layer_norm_backward


class LayerProducts(ABC):
    """A layer's values for a batch, and the products with its derivatives.

    The inputs ``x`` that the methods take are those of the last :meth:`forward`,
    ``(rows, inputs)``. "Output" is the transform's, before the activation.

    Args:
        layer: The layer.
        value: Memory for the layer's values, ``(rows, outputs)``.
    """

    def __init__(self, layer: DenseLayer, value: Tensor) -> None:
        self.weight = layer.transform.weight.detach()
        self.bias = layer.transform.bias.detach()
        self.value, self.change = value, torch.empty_like(value)
        self._activation = layer.activation
        needs_inputs = layer.activation is not None and layer.activation.slope is not None
        # Inputs of an activation whose derivative needs them; its slopes once these are used.
        self._inputs = torch.empty_like(value) if needs_inputs else None
        self._has_slopes = False

    @property
    def width(self) -> int:
        """Number of outputs."""
        return self.value.shape[1]

    @abstractmethod
    def forward(self, x: Tensor) -> None:
        """Write the output into :attr:`value`."""

    @abstractmethod
    def move(self, x: Tensor, moved: Tensor | None, weight: Tensor, bias: Tensor) -> None:
        """Write the change of the output into :attr:`change`.

        Args:
            x: The inputs.
            moved: Their change, or None for no change.
            weight: Change of the weight.
            bias: Change of the bias.
        """

    @abstractmethod
    def backward(self, x: Tensor, gradient: Tensor, out: Tensor) -> Tensor:
        """From the gradient of the outputs to that of the inputs, written into ``out``."""

    @abstractmethod
    def parameter_gradients(
        self, x: Tensor, gradient: Tensor, weight: Tensor, bias: Tensor
    ) -> None:
        """From the gradient of the outputs to those of the parameters, which are overwritten."""

    def activate(self) -> None:
        """Apply the activation to the values."""
        if self._activation is None:
            return
        if self._inputs is not None:
            self._inputs.copy_(self.value)
            self._has_slopes = False
        self._activation.apply(self.value)

    def multiply_by_slope(self, gradient: Tensor) -> None:
        """Multiply a gradient by the activation's derivative, in place."""
        if self._activation is None:
            return
        if self._inputs is None:
            self._activation.backward(gradient, self.value)
            return
        # Only here: the tries of a line search need no derivatives.
        if not self._has_slopes and self._activation.slope is not None:
            self._inputs.copy_(self._activation.slope(self._inputs))
            self._has_slopes = True
        self._activation.backward(gradient, self._inputs)


class LinearProducts(LayerProducts):
    """``x -> W x + b``.

    MKL takes up to four times as long for a product with few columns as for its transpose, so the
    transpose is computed for fewer than 8 outputs, and for the weight's gradient with fewer than
    24 inputs and at least 16 outputs. There it was faster for nearly all sizes.
    """

    def __init__(self, layer: DenseLayer, rows: int) -> None:
        outputs, inputs = layer.transform.weight.shape
        new = layer.transform.weight.detach().new_empty
        few = 1 < outputs < 8  # column-major
        super().__init__(layer, new(outputs, rows).t() if few else new(rows, outputs))
        self._weight_t = self.weight.t()
        self._is_tall = inputs < 24 and outputs >= 16

    def forward(self, x: Tensor) -> None:
        """Write the output into :attr:`value`."""
        torch.addmm(self.bias, x, self._weight_t, out=self.value)

    def move(self, x: Tensor, moved: Tensor | None, weight: Tensor, bias: Tensor) -> None:
        """Write the change of the output into :attr:`change`."""
        torch.addmm(bias, x, weight.t(), out=self.change)
        if moved is not None:
            self.change.addmm_(moved, self._weight_t)

    def backward(self, x: Tensor, gradient: Tensor, out: Tensor) -> Tensor:  # noqa: ARG002
        """From the gradient of the outputs to that of the inputs."""
        # For one output the outer product is the same, and several times faster.
        multiply = torch.mul if gradient.shape[1] == 1 else torch.mm
        return multiply(gradient, self.weight, out=out)

    def parameter_gradients(
        self, x: Tensor, gradient: Tensor, weight: Tensor, bias: Tensor
    ) -> None:
        """From the gradient of the outputs to those of the parameters."""
        if self._is_tall:
            weight.copy_(torch.mm(x.t(), gradient).t())
        else:
            torch.mm(gradient.t(), x, out=weight)
        torch.sum(gradient, dim=0, out=bias)


class NormProducts(LayerProducts):
    """``x -> w n + b``, with ``n = (x - mean(x)) / sqrt(var(x) + eps)`` row by row.

    The Jacobian of n is symmetric: ``(I - 1 1^T / width - n n^T / width) / sqrt(var(x) + eps)``. So
    one function, torch's backward pass, computes both products with it.
    """

    _normal: Tensor
    """n of the last :meth:`forward`."""
    _mean: Tensor
    _scale: Tensor
    """``1 / sqrt(var(x) + eps)``."""

    def __init__(self, layer: DenseLayer, rows: int) -> None:
        transform = layer.transform
        assert isinstance(transform, nn.LayerNorm)
        self._shape, self._eps = transform.normalized_shape, transform.eps
        weight = transform.weight.detach()
        super().__init__(layer, weight.new_empty(rows, *self._shape))
        # Torch takes nearly twice as long without a weight.
        self._ones_and_zeros = torch.ones_like(weight), torch.zeros_like(weight)

    def forward(self, x: Tensor) -> None:
        """Write the output into :attr:`value`."""
        self._normal, self._mean, self._scale = torch.native_layer_norm(
            x, self._shape, *self._ones_and_zeros, self._eps
        )
        torch.addcmul(self.bias, self._normal, self.weight, out=self.value)

    def move(self, x: Tensor, moved: Tensor | None, weight: Tensor, bias: Tensor) -> None:
        """Write the change of the output into :attr:`change`."""
        torch.addcmul(bias, self._normal, weight, out=self.change)
        if moved is not None:
            self.change.addcmul_(self._jacobian_product(x, moved, None), self.weight)

    def backward(self, x: Tensor, gradient: Tensor, out: Tensor) -> Tensor:
        """From the gradient of the outputs to that of the inputs."""
        return out.copy_(self._jacobian_product(x, gradient, self.weight))

    def parameter_gradients(
        self,
        x: Tensor,  # noqa: ARG002
        gradient: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> None:
        """From the gradient of the outputs to those of the parameters."""
        torch.sum(gradient * self._normal, dim=0, out=weight)
        torch.sum(gradient, dim=0, out=bias)

    def _jacobian_product(self, x: Tensor, vectors: Tensor, weight: Tensor | None) -> Tensor:
        """The product of n's Jacobian with ``weight * vectors``, row by row."""
        moments = x, self._shape, self._mean, self._scale
        product: Tensor = _norm_backward(vectors, *moments, weight, None, [True, False, False])[0]
        return product


def layer_products(layer: DenseLayer, rows: int) -> LayerProducts:
    """The products of a layer.

    Args:
        layer: The layer.
        rows: Size of each batch.
    """
    products = LinearProducts if isinstance(layer.transform, nn.Linear) else NormProducts
    return products(layer, rows)
