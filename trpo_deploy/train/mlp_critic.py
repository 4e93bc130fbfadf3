"""The critic's regression for a standard MLP: the same steps as the generic one, unrolled.

Gradients are written out and Adam works on one flat vector, which saves the many small
kernels that dominate at this size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from trpo_deploy.train.critic import NOT_FINITE, CriticFit, all_finite
from trpo_deploy.train.mlp import DenseNetwork, DenseProducts, network_input
from trpo_deploy.train.mlp_fisher import split


def is_plain_adam(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    """Whether :class:`FlatAdam` does with these parameters what the optimiser would."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return False
    # A layer that was put in later is not among them, and SB3 leaves it as it is.
    if not {id(p) for p in parameters} <= {id(p) for p in group["params"]}:
        return False
    return not (group["weight_decay"] or group["amsgrad"] or group["maximize"])


@torch.no_grad()
def fit_mlp_critic(
    policy: ActorCriticPolicy,
    critic: DenseNetwork,
    buffer: RolloutBuffer,
    n_updates: int,
    batch_size: int | None,
    max_grad_norm: float | None = None,
) -> CriticFit:
    """:func:`~trpo_deploy.train.critic.fit_critic` for a dense critic and plain Adam.

    The random draws are those of ``RolloutBuffer.get``, so both give the same critic. The
    buffer must have been read before, which puts its samples into one row.
    """
    observations = buffer.to_torch(buffer.observations)
    features = network_input(policy, observations, policy.vf_features_extractor)
    returns = buffer.to_torch(buffer.returns).reshape(-1, 1)
    size = len(returns)
    rows = min(batch_size or size, size)
    norms, counts = [], []
    adam = FlatAdam(policy.optimizer, critic.parameters)
    with adam.flat_parameters():
        full, rest = DenseProducts(critic, rows), DenseProducts(critic, size % rows)
        for _ in range(n_updates):
            order = torch.from_numpy(np.random.permutation(size)).to(returns.device)
            shuffled = (column.index_select(0, order) for column in (features, returns))
            batches = (torch.split(column, rows) for column in shuffled)
            for x, y in zip(*batches, strict=True):
                products = full if len(y) == rows else rest
                norms.append(_gradient(products, x, y, adam.gradients))
                counts.append(len(y))
                if max_grad_norm is not None:
                    _clip(adam.gradient, max_grad_norm)
                adam.step()
    losses = [float(norm) ** 2 / count for norm, count in zip(norms, counts, strict=True)]
    loss = sum(losses) / max(len(losses), 1)
    if not (math.isfinite(loss) and all_finite([adam.vector, *adam.moments.values()])):
        return CriticFit(float("nan"), NOT_FINITE)
    adam.commit()
    return CriticFit(loss, None)


def _gradient(products: DenseProducts, x: Tensor, y: Tensor, gradients: list[Tensor]) -> Tensor:
    """The gradient of the mean squared error, and the norm of the errors."""
    error = products.forward(x).sub_(y)
    norm: Tensor = torch.linalg.vector_norm(error)
    products.transposed_product(x, error.mul_(2.0 / len(y)), gradients)
    return norm


def _clip(gradient: Tensor, max_norm: float) -> None:
    """As ``torch.nn.utils.clip_grad_norm_``."""
    gradient.mul_((max_norm / (gradient.norm() + 1e-6)).clamp_(max=1.0))


class FlatAdam:
    """``torch.optim.Adam`` on one vector in place of many tensors.

    Nothing of the optimiser or of the parameters has changed before :meth:`commit`.

    Args:
        optimizer: plain Adam, see :func:`is_plain_adam`.
        parameters: those that take part.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self.vector = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.vector)
        self.gradients = split(self.gradient, parameters)
        self.moments = {name: self._flat_state(name) for name in ("exp_avg", "exp_avg_sq")}
        # The fused kernel counts on the parameters' device, torch's default Adam on the CPU.
        steps = float(self._state("step", parameters[0]))
        self._steps = torch.tensor(steps, device=self.vector.device)

    @contextmanager
    def flat_parameters(self) -> Iterator[None]:
        """Let the parameters be views of :attr:`vector` for a while."""
        own = [parameter.data for parameter in self._parameters]
        try:
            for parameter, view in zip(
                self._parameters, split(self.vector, self._parameters), strict=True
            ):
                parameter.data = view
            yield
        finally:
            for parameter, data in zip(self._parameters, own, strict=True):
                parameter.data = data

    def step(self) -> None:
        """One step along :attr:`gradient`."""
        group = self._optimizer.param_groups[0]
        beta1, beta2 = group["betas"]
        self._steps += 1
        # What torch.optim's own fused Adam calls; its way there takes longer than the kernel.
        torch._fused_adam_(
            [self.vector],
            [self.gradient],
            [self.moments["exp_avg"]],
            [self.moments["exp_avg_sq"]],
            [],
            [self._steps],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def commit(self) -> None:
        """Write parameters, moments and the number of steps back."""
        for name, flat in self.moments.items():
            for parameter, part in zip(
                self._parameters, split(flat, self._parameters), strict=True
            ):
                self._optimizer.state[parameter][name] = part.clone()
        for parameter, part in zip(
            self._parameters, split(self.vector, self._parameters), strict=True
        ):
            self._optimizer.state[parameter]["step"] = self._steps.cpu().clone()
            parameter.copy_(part)

    def _state(self, name: str, parameter: nn.Parameter) -> Tensor | float:
        state: dict[str, Tensor] = self._optimizer.state.get(parameter, {})
        return state.get(name, 0.0)

    def _flat_state(self, name: str) -> Tensor:
        parts = [
            torch.zeros_like(p) + self._state(name, p)  # zero before the first step
            for p in self._parameters
        ]
        return torch.cat([part.detach().reshape(-1) for part in parts])
