"""The standard MLP actor-critic, with its derivatives written out.

Most policies are two small dense networks on flat features. For these the products that an
update consists of need no autograd: :class:`DenseProducts` has the forward pass, the product
with its Jacobian and the product with the transpose. :func:`standard_mlp` is the one place
where it is decided whether a policy is of this kind; all others take the generic path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn

from trpo_deploy.sb3.squashed import SquashedMlpPolicy
from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True)
class Activation:
    """An element-wise function whose derivative follows from its value."""

    apply: Callable[[Tensor], object]
    """In place: from ``z`` to the value."""
    backward: Callable[[Tensor, Tensor], object]
    """In place: a gradient times the derivative, given the value."""
    array: Callable[[Array], Array]
    """From ``z`` to the value in NumPy; may overwrite ``z``."""
    onnx: str
    """The ONNX operator from ``z`` to the value, with its attributes."""
    onnx_slope: tuple[str, ...]
    """ONNX's text for ``{slope}``, the derivative, from the value ``{h}``."""


_ONNX_ONE_ABOVE_ZERO = (
    "{slope}_zero = Constant<value_float = 0.0>()",
    "{slope}_one = Constant<value_float = 1.0>()",
    "{slope}_above = Greater({h}, {slope}_zero)",
    "{slope} = Where({slope}_above, {slope}_one, {slope}_below)",
)


def _tanh_(z: Tensor) -> None:
    # NumPy's takes a sixth of the time, and half of a forward pass is this.
    if z.device.type == "cpu":
        np.tanh(z.numpy(), out=z.numpy())
    else:
        z.tanh_()


def _activation(module: nn.Module) -> Activation | None:
    if type(module) is nn.Tanh:
        # One kernel in place of three, in the most frequent case.
        tanh_backward = torch.ops.aten.tanh_backward.grad_input
        return Activation(
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
    if type(module) is nn.ReLU:
        return Activation(
            apply=torch.relu_,
            backward=lambda g, h: g.mul_(h > 0),
            array=lambda z: np.maximum(z, np.float32(0), out=z),
            onnx="Relu",
            onnx_slope=("{slope} = Sign({h})",),
        )
    if type(module) is nn.Sigmoid:
        # (1 + tanh(z / 2)) / 2 does not overflow.
        half = np.float32(0.5)
        return Activation(
            apply=torch.sigmoid_,
            backward=lambda g, h: g.mul_(h).mul_(1 - h),
            array=lambda z: half * (1 + np.tanh(half * z)),
            onnx="Sigmoid",
            onnx_slope=("{slope}_less = Mul({h}, {h})", "{slope} = Sub({h}, {slope}_less)"),
        )
    # The value's sign tells which side of zero it came from, unless these turn it round.
    if type(module) is nn.ELU and module.alpha >= 0:
        alpha = float(module.alpha)
        return Activation(
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
    if type(module) is nn.LeakyReLU and module.negative_slope >= 0:
        leak = float(module.negative_slope)
        return Activation(
            apply=lambda z: nn.functional.leaky_relu_(z, leak),
            backward=lambda g, h: g.mul_(torch.where(h > 0, 1.0, leak)),
            array=lambda z: np.where(z > 0, z, np.float32(leak) * z),
            onnx=f"LeakyRelu<alpha = {leak!r}>",
            onnx_slope=(
                f"{{slope}}_below = Constant<value_float = {leak!r}>()",
                *_ONNX_ONE_ABOVE_ZERO,
            ),
        )
    return None


@dataclass(frozen=True, eq=False)
class DenseNetwork:
    """``x -> W_n phi(... phi(W_1 x + b_1) ...) + b_n``, on the parameters of torch modules."""

    linears: tuple[nn.Linear, ...]
    activations: tuple[Activation, ...]
    """One behind each layer but the last."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Weight and bias of each layer, in order."""
        return [parameter for linear in self.linears for parameter in linear.parameters()]


@dataclass(frozen=True, eq=False)
class _Layer:
    weight: Tensor
    weight_t: Tensor
    bias: Tensor
    activation: Activation | None
    value: Tensor
    change: Tensor
    change_t: Tensor


class DenseProducts:
    """A network's forward pass and the products with its Jacobian, in memory that is kept.

    Without that memory the system gives, zeroes and takes back pages for each product.
    What a method returns is overwritten by the next call. A product with few columns, which
    takes MKL up to four times as long as its transpose, is computed as that: a layer's outputs
    below 8 and the first layer's inputs below 24, where that was faster for nearly all sizes.

    Args:
        network: its parameters must stay where they are in memory, with any values.
        rows: of all batches.
    """

    def __init__(self, network: DenseNetwork, rows: int) -> None:
        self._layers = []
        self._slopes: list[Tensor] = []
        for linear, activation in zip(network.linears, (*network.activations, None), strict=True):
            weight, bias = linear.weight.detach(), linear.bias.detach()
            value, change = (_matrix(rows, weight) for _ in range(2))
            self._layers.append(
                _Layer(weight, weight.t(), bias, activation, value, change, change.t())
            )

    def forward(self, x: Tensor) -> Tensor:
        """The output, ``(rows, outputs)``, for ``x``, ``(rows, features)``."""
        return self.forward_with_latent(x)[1]

    def forward_with_latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last layer's input and output."""
        self._slopes = []
        latent = x
        for layer in self._layers:
            torch.addmm(layer.bias, x, layer.weight_t, out=layer.value)
            latent, x = x, layer.value
            if layer.activation is not None:
                layer.activation.apply(x)
        return latent, x

    def keep_slopes(self) -> None:
        """Make products faster until the next :meth:`forward`; worth it for ten or more of them.

        How the outputs follow what an activation takes is the same for all directions. With these
        slopes, a sum for each sample takes the place of the product with a hidden layer's weight.
        """
        *hidden, output = self._layers
        outputs, rows = len(output.weight), len(output.value)
        widths = [len(layer.weight) for layer in hidden]
        # A layer 16 times as wide as the outputs are many takes half of the time so, in NumPy;
        # one 80 times as wide, a tenth. At 10 times the slopes themselves take what they save.
        narrow = 16 * outputs > min(widths[1:], default=0)
        large = outputs * rows * sum(widths[:-1]) > _MOST_SLOPES
        if narrow or large or output.value.device.type != "cpu":
            return
        self._slopes = [output.value.new_empty(outputs, rows, width) for width in widths[:-1]]
        for i, weight in enumerate(output.weight):
            slope = hidden[-1].change.copy_(weight)
            for index in range(len(hidden) - 1, -1, -1):
                layer = hidden[index]
                assert layer.activation is not None
                layer.activation.backward(slope, layer.value)
                if index > 0:
                    slope = torch.mm(slope, layer.weight, out=self._slopes[index - 1][i])

    def jacobian_product(self, x: Tensor, direction: Sequence[Tensor]) -> Tensor:
        """How the output moves when the parameters move in a direction.

        Args:
            x: what :meth:`forward` was given last.
            direction: shaped as the network's parameters.

        Returns:
            ``J v``, of the output's shape.
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
            if layer.activation is not None:
                layer.activation.backward(moved, x)
        assert moved is not None
        for part in parts:
            moved += torch.from_numpy(part).t()
        return moved

    def transposed_product(self, x: Tensor, output: Tensor, gradients: Sequence[Tensor]) -> None:
        """``J^T u``: the gradient of ``sum(output * u)``, written into ``gradients``.

        Args:
            x: what :meth:`forward` was given last.
            output: ``u``, of the output's shape.
            gradients: tensors shaped as the network's parameters, overwritten.
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
                assert before.activation is not None
                before.activation.backward(before.change, before.value)
            change, change_t = before.change, before.change_t
        if x.shape[1] < 24:
            gradients[0].copy_(torch.mm(x.t(), change).t())
        else:
            torch.mm(change_t, x, out=gradients[0])
        torch.sum(change, dim=0, out=gradients[1])


_MOST_SLOPES = 2**25
"""To keep, 128 MiB of them."""


def _weighted_sum(slopes: Tensor, weights: Tensor, out: Tensor) -> None:
    """Over the first dimension of ``(outputs, rows, width)``, with weights ``(rows, outputs)``."""
    columns = torch.split(weights, 1, dim=1)
    torch.mul(slopes[0], columns[0], out=out)
    for slope, column in zip(slopes[1:], columns[1:], strict=True):
        out.addcmul_(slope, column)


def _matrix(rows: int, weight: Tensor) -> Tensor:
    """Memory for a layer's output, ``(rows, outputs)``, by columns if these are few."""
    outputs = len(weight)
    few = 1 < outputs < 8
    return weight.new_empty(outputs, rows).t() if few else weight.new_empty(rows, outputs)


@dataclass(frozen=True, eq=False)
class StandardMlp:
    """An actor and a critic that share no parameters, and the actor's distribution."""

    actor: DenseNetwork
    critic: DenseNetwork
    log_std: nn.Parameter | None
    """Of a Gaussian, or of gSDE's noise; the other distributions have none."""

    @property
    def actor_parameters(self) -> list[nn.Parameter]:
        """As :func:`~trpo_deploy.train.algorithm.trust_region.actor_parameters` finds them."""
        return [*([] if self.log_std is None else [self.log_std]), *self.actor.parameters]


_DISTRIBUTIONS = (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)


def network_input(policy: ActorCriticPolicy, observations: Tensor, extractor: nn.Module) -> Tensor:
    """What the actor's or the critic's network sees of raw observations, ``(batch, features)``.

    The policy's own method gives a pair where the two do not share an extractor.
    """
    features: Tensor = BasePolicy.extract_features(policy, observations, extractor)  # type: ignore[arg-type]
    return features


def standard_mlp(policy: ActorCriticPolicy) -> StandardMlp | None:
    """The policy as two dense networks, or None if it is, or may be, anything else."""
    plain = (
        type(policy) in (ActorCriticPolicy, SquashedMlpPolicy)
        and type(policy.mlp_extractor) is MlpExtractor
        and type(policy.pi_features_extractor) is FlattenExtractor
        and type(policy.vf_features_extractor) is FlattenExtractor
        and type(policy.action_dist) in _DISTRIBUTIONS
        and not getattr(policy.action_dist, "learn_features", False)
        and type(policy.action_net) is nn.Linear
        and not any(_is_watched(module) for module in policy.modules())
        and not any(_is_watched(parameter) for parameter in policy.parameters())
    )
    if not plain:
        return None
    actor = _dense([*policy.mlp_extractor.policy_net, policy.action_net])
    critic = _dense([*policy.mlp_extractor.value_net, policy.value_net])
    if actor is None or critic is None:
        return None
    continuous = (DiagGaussianDistribution, StateDependentNoiseDistribution)
    log_std = policy.log_std if isinstance(policy.action_dist, continuous) else None
    found = StandardMlp(actor, critic, log_std)
    # Each once, or actor and critic share one.
    known = sorted(id(p) for p in (*found.actor_parameters, *critic.parameters))
    trained = sorted(id(p) for p in policy.parameters() if p.requires_grad)
    return found if known == trained else None


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _is_watched(part: nn.Module | nn.Parameter) -> bool:
    """Whether somebody wants to be called, or to take the place of a method."""
    replaced = any(name.startswith("forward") for name in vars(part))
    return replaced or any(getattr(part, name, None) for name in _HOOKS)


def _dense(modules: Sequence[nn.Module]) -> DenseNetwork | None:
    """Linear layers with one known activation between two of them, or None."""
    linears = [module for module in modules[::2] if type(module) is nn.Linear]
    activations = [_activation(module) for module in modules[1::2]]
    if len(linears) != len(modules[::2]):
        return None
    # A pruned layer has others, from which it makes its weight.
    if any([name for name, _ in each.named_parameters()] != ["weight", "bias"] for each in linears):
        return None
    known = tuple(activation for activation in activations if activation is not None)
    return DenseNetwork(tuple(linears), known) if len(known) == len(activations) else None
