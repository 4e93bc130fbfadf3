"""The critic's regression for a standard MLP: autograd's steps, run as one ONNX graph.

All mini-batches of an update, with gradients and Adam written out, are one graph that onnxruntime
runs in a single call. The call does not hold Python's global lock. The regression therefore runs
on a core of its own during the policy step; neither needs a result of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import lru_cache, partial
from threading import Thread
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.optim import optimizer as optimizers

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.mlp.adam_schedule import adam_schedule
from trpo_deploy.train.mlp.dense_network import DenseNetwork
from trpo_deploy.train.mlp.regression_graph import regression_graph
from trpo_deploy.train.mlp.standard_mlp import network_input
from trpo_deploy.train.update.as_written import is_as_written, is_from_library
from trpo_deploy.train.update.flat import split_like
from trpo_deploy.train.update.regression import NOT_FINITE, CriticFit, RegressionSettings
from trpo_deploy.train.update.samples import map_arrays


def can_regress(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    """Whether :class:`MlpRegression` changes these parameters as the optimizer would."""
    if not is_as_written(optimizer, torch.optim.Adam) or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    of_all = (optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks)
    own = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    if any(of_all) or any(own):
        return False
    if not (is_from_library(torch.optim.Adam.step) and is_from_library(torch.optim.Adam.zero_grad)):
        return False
    # The optimizer does not have a layer that replaced another one; SB3 leaves it untrained.
    if not {id(p) for p in parameters} <= {id(p) for p in group["params"]}:
        return False
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in parameters):
        return False
    # A layer that was frozen for a while has made fewer steps; the graph has one step count.
    if len({float(optimizer.state.get(p, {}).get("step", 0)) for p in parameters}) > 1:
        return False
    return not (group["weight_decay"] or group["amsgrad"] or group["maximize"])


class MlpRegression:
    """:class:`~trpo_deploy.train.update.regression.Regression` for a dense critic and plain Adam.

    It starts at once, in its own thread, on copies: policy and optimizer do not change before
    :meth:`commit`. The permutations are drawn here, as ``RolloutBuffer.get`` draws them, so the
    critic is the same as by autograd.

    Args:
        policy: The critic's policy.
        critic: The critic's network.
        buffer: A full rollout with returns, which :meth:`RolloutBuffer.get` has flattened.
        settings: How to step through the rollout, with at least one pass.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        critic: DenseNetwork,
        buffer: RolloutBuffer,
        settings: RegressionSettings,
    ) -> None:
        self._optimizer, self._parameters = policy.optimizer, critic.parameters
        with torch.no_grad():
            observations = map_arrays(buffer.to_torch, buffer.observations)
            features = network_input(policy, observations, policy.vf_features_extractor)
        # All ranks step through all samples: a mini-batch is too small to be worth a message.
        features = world().gather_rows(features)
        returns = world().gather_rows(torch.from_numpy(buffer.returns.reshape(-1, 1)))
        size = len(features)
        self._random_state = np.random.get_state()
        orders = [np.random.permutation(size) for _ in range(settings.n_updates)]
        steps = float(self._state("step", self._parameters[0]))
        schedule = adam_schedule(
            policy.optimizer, steps, size, settings.batch_size or size, settings.n_updates
        )
        self._two_over_rows = schedule["two_over_rows"]
        self._steps = steps + len(self._two_over_rows)
        inputs = {
            "features": features.numpy(),
            "returns": returns.numpy().copy(),
            "ones": np.ones((size, 1), np.float32),
            "order": np.concatenate(orders),
            "theta": self._flat(lambda parameter: parameter.detach()),
            **{
                name: (self._flat(partial(self._state, name)) / (1 - beta)).astype(np.float32)
                for name, beta in self._moments()
            },
            **schedule,
        }
        if settings.max_grad_norm is not None:
            inputs["max_norm"] = np.asarray(settings.max_grad_norm, np.float32)
        graph = regression_graph(critic, clipped=settings.max_grad_norm is not None)
        self._outputs: Future[list[Array]] = Future()
        # A thread instead of an executor, which starts nothing once the main thread has ended.
        Thread(target=_run, args=(graph, inputs, self._outputs)).start()

    @torch.no_grad()
    def commit(self) -> CriticFit:
        """Wait for the result and write parameters and optimizer if it is finite."""
        theta, *sums, squares = self._outputs.result()
        losses = squares * self._two_over_rows / 2
        loss = float(losses.mean(dtype=np.float64))
        if not (math.isfinite(loss) and all(np.isfinite(each).all() for each in (theta, *sums))):
            return CriticFit(math.nan, NOT_FINITE)
        for parameter, values in self._by_parameter(theta):
            parameter.copy_(values)
            self._optimizer.state[parameter]["step"] = torch.tensor(self._steps)
        for (name, beta), flat in zip(self._moments(), sums, strict=True):
            for parameter, values in self._by_parameter(flat):
                self._optimizer.state[parameter][name] = values * (1 - beta)
        return CriticFit(loss, None)

    def discard(self) -> None:
        """Drop the result and take back the random draws."""
        np.random.set_state(self._random_state)

    def _moments(self) -> Iterable[tuple[str, float]]:
        """Adam's running means, each with the fraction that a step keeps."""
        return zip(("exp_avg", "exp_avg_sq"), self._optimizer.param_groups[0]["betas"], strict=True)

    def _state(self, name: str, parameter: nn.Parameter) -> Tensor | float:
        state: dict[str, Tensor] = self._optimizer.state.get(parameter, {})
        return state.get(name, 0.0)  # zero before the first step

    def _flat(self, of: Callable[[nn.Parameter], Tensor | float]) -> Array:
        parts = [(torch.zeros_like(p) + of(p)).reshape(-1) for p in self._parameters]
        return torch.cat(parts).detach().numpy()

    def _by_parameter(self, flat: Array) -> Iterable[tuple[nn.Parameter, Tensor]]:
        parts = split_like(torch.from_numpy(flat), self._parameters)
        return zip(self._parameters, parts, strict=True)


def _run(graph: str, inputs: dict[str, Array], outputs: Future[list[Array]]) -> None:
    try:
        outputs.set_result(_session(graph).run(None, inputs))
    except Exception as error:  # onnxruntime's errors share no public base class
        outputs.set_exception(error)


@lru_cache(maxsize=8)
def _session(graph: str) -> Any:
    # Imported here, since the import starts a thread, and a process forked after it hangs in
    # sys.exit(). Worker processes and programs that only import TRPO stay without it. And in this
    # thread, since Ctrl-C while the main thread imports an extension raises an ImportError.
    import onnxruntime
    from onnx import parser

    options = onnxruntime.SessionOptions()
    # More threads do not speed up small products, and the policy step needs the other core.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = parser.parse_model(graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
