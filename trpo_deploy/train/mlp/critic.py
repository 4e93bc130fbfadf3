"""The critic's regression for a standard MLP: the same steps as the generic one, as one graph.

All mini-batches of an update, with gradients and Adam written out, are one ONNX graph that
onnxruntime runs in a single call. The call holds no lock of Python's, so the regression can run
beside the policy step, on a core of its own: neither needs anything of the other.
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

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.algorithm.critic import NOT_FINITE, CriticFit
from trpo_deploy.train.mlp.actor import split
from trpo_deploy.train.mlp.network import DenseNetwork, network_input


def can_regress(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> bool:
    """Whether :class:`MlpRegression` does with these parameters what the optimiser would."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return False
    # A layer that was put in later is not among them, and SB3 leaves it as it is.
    if not {id(p) for p in parameters} <= {id(p) for p in group["params"]}:
        return False
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in parameters):
        return False
    # Whoever lets a layer learn later on has parameters with fewer steps; here all make the same.
    if len({float(optimizer.state.get(p, {}).get("step", 0)) for p in parameters}) > 1:
        return False
    return not (group["weight_decay"] or group["amsgrad"] or group["maximize"])


class MlpRegression:
    """:func:`~trpo_deploy.train.algorithm.critic.fit_critic` for a dense critic and plain Adam.

    It starts at once, in a thread of its own, on copies: nothing of policy and optimiser changes
    before :meth:`commit`. The random draws are made here, and are those of ``RolloutBuffer.get``,
    so both give the same critic.

    Args:
        policy: whose critic and optimiser are changed.
        critic: the policy's.
        buffer: a full rollout with returns, read before, which puts its samples into one row.
        n_updates: passes over the rollout, at least one.
        batch_size: samples of a mini-batch; None for the whole rollout.
        max_grad_norm: gradients are scaled down to this norm.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        critic: DenseNetwork,
        buffer: RolloutBuffer,
        n_updates: int,
        batch_size: int | None,
        max_grad_norm: float | None = None,
    ) -> None:
        self._optimizer, self._parameters = policy.optimizer, critic.parameters
        with torch.no_grad():
            observations = buffer.to_torch(buffer.observations)
            features = network_input(policy, observations, policy.vf_features_extractor)
        size = len(features)
        self._random_state = np.random.get_state()
        orders = [np.random.permutation(size) for _ in range(n_updates)]
        steps = float(self._state("step", self._parameters[0]))
        schedule = _schedule(policy.optimizer, steps, size, batch_size or size, n_updates)
        self._two_over_rows = schedule["two_over_rows"]
        self._steps = steps + len(self._two_over_rows)
        inputs = {
            "features": features.numpy(),
            "returns": buffer.returns.reshape(-1, 1).copy(),
            "ones": np.ones((size, 1), np.float32),
            "order": np.concatenate(orders),
            "theta": self._flat(lambda parameter: parameter.detach()),
            **{
                name: _float32(self._flat(partial(self._state, name)) / (1 - beta))
                for name, beta in self._moments()
            },
            **schedule,
        }
        if max_grad_norm is not None:
            inputs["max_norm"] = _float32(max_grad_norm)
        graph = _graph(critic, clipped=max_grad_norm is not None)
        self._outputs: Future[list[Array]] = Future()
        # Not an executor: those start nothing more once the program's main thread has ended.
        Thread(target=_run, args=(graph, inputs, self._outputs)).start()

    @torch.no_grad()
    def commit(self) -> CriticFit:
        """Wait for the end, and write parameters and optimiser unless they are not finite."""
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

    def drop(self) -> None:
        """Leave all as it was, the random draws too."""
        np.random.set_state(self._random_state)

    def _moments(self) -> Iterable[tuple[str, float]]:
        """Adam's running means and the part of each that a step keeps."""
        return zip(("exp_avg", "exp_avg_sq"), self._optimizer.param_groups[0]["betas"], strict=True)

    def _state(self, name: str, parameter: nn.Parameter) -> Tensor | float:
        state: dict[str, Tensor] = self._optimizer.state.get(parameter, {})
        return state.get(name, 0.0)  # zero before the first step

    def _flat(self, of: Callable[[nn.Parameter], Tensor | float]) -> Array:
        parts = [(torch.zeros_like(p) + of(p)).reshape(-1) for p in self._parameters]
        return torch.cat(parts).detach().numpy()

    def _by_parameter(self, flat: Array) -> Iterable[tuple[nn.Parameter, Tensor]]:
        parts = split(torch.from_numpy(flat), self._parameters)
        return zip(self._parameters, parts, strict=True)


def _run(graph: str, inputs: dict[str, Array], outputs: Future[list[Array]]) -> None:
    try:
        outputs.set_result(_session(graph).run(None, inputs))
    except Exception as error:  # onnxruntime's errors share no public base class
        outputs.set_exception(error)


def _schedule(
    adam: torch.optim.Optimizer, steps: float, size: int, rows: int, n_updates: int
) -> dict[str, Array]:
    """What the mini-batches are, and how each of them steps.

    Adam (Kingma and Ba 2015, algorithm 1, arXiv:1412.6980) divides running means, which are
    ``1 - beta`` times a decaying sum. Carried as sums, they need two operations fewer, and the
    factors go into the step's length and into epsilon.

    Args:
        adam: the optimiser.
        steps: that it has made.
        size: samples.
        rows: of them in a mini-batch, at most.
        n_updates: passes over the samples.
    """
    group = adam.param_groups[0]
    beta1, beta2 = group["betas"]
    start = np.arange(0, size, rows)
    end = np.minimum(start + rows, size)
    passes = size * np.arange(n_updates)[:, None]
    step = steps + 1 + np.arange(n_updates * len(start))
    scale = np.sqrt((1 - beta2**step) / (1 - beta2))
    return {
        "start": (passes + start).reshape(-1, 1),
        "end": (passes + end).reshape(-1, 1),
        "two_over_rows": _float32(np.tile(2 / (end - start), n_updates)),
        "length": _float32(group["lr"] * scale * (1 - beta1) / (1 - beta1**step)),
        "eps": _float32(group["eps"] * scale),
        "beta1": _float32(beta1),
        "beta2": _float32(beta2),
    }


def _float32(value: Any) -> Array:
    return np.asarray(value, np.float32)


@lru_cache(maxsize=8)
def _session(graph: str) -> Any:
    # Here, since it starts a thread, after which a fork that ends by sys.exit() hangs: processes
    # of environments, and whoever only imports TRPO, have none of it. And not in the main thread,
    # where Ctrl-C within an extension's import comes out as an ImportError.
    import onnxruntime
    from onnx import parser

    options = onnxruntime.SessionOptions()
    # Small products gain nothing by more threads, and the policy step has the other core.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = parser.parse_model(graph).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _graph(critic: DenseNetwork, *, clipped: bool) -> str:
    """The regression in ONNX's text form: a scan over mini-batches that carries Adam's vectors."""
    shapes = [tuple(linear.weight.shape) for linear in critic.linears]
    lengths = [length for outputs, inputs in shapes for length in (outputs * inputs, outputs)]
    n = sum(lengths)
    body = "\n".join([*_gradient(critic), *(_CLIP if clipped else _NO_CLIP), *_ADAM])
    return f"""<ir_version: 8, opset_import: ["" : 13]>
regression (
  float[samples, {shapes[0][1]}] features, float[samples, 1] returns, float[samples, 1] ones,
  int64[draws] order, int64[steps, 1] start, int64[steps, 1] end, float[steps] two_over_rows,
  float[steps] length, float[steps] eps, float beta1, float beta2,
  {"float max_norm," if clipped else ""}
  float[{n}] theta, float[{n}] exp_avg, float[{n}] exp_avg_sq
) => (
  float[{n}] theta_out, float[{n}] exp_avg_out, float[{n}] exp_avg_sq_out, float[steps] squares
) <
  int64[1] flat = {{-1}},
  {", ".join(f"int64[2] shape{i} = {{{o}, {k}}}" for i, (o, k) in enumerate(shapes))},
  int64[{len(lengths)}] lengths = {{{", ".join(map(str, lengths))}}}
> {{
  theta_out, exp_avg_out, exp_avg_sq_out, squares =
    Scan(theta, exp_avg, exp_avg_sq, start, end, two_over_rows, length, eps) <
      num_scan_inputs = 5,
      body = mini_batch (float[{n}] p, float[{n}] m, float[{n}] v,
        int64[1] from, int64[1] to, float two_over_rows_now, float length_now, float eps_now)
        => (float[{n}] p_out, float[{n}] m_out, float[{n}] v_out, float square) {{
{body}
      }}
    >
}}"""


def _gradient(critic: DenseNetwork) -> list[str]:
    """``raw``: the gradient of the mean square of the mini-batch's errors."""
    last = len(critic.linears) - 1
    layers = range(last + 1)
    lines = [
        "rows = Slice(order, from, to)",
        "h0 = Gather(features, rows)",
        "y = Gather(returns, rows)",
        "ones_now = Gather(ones, rows)",
        ", ".join(f"w{i}_flat, b{i}" for i in layers) + " = Split(p, lengths)",
        *(f"w{i} = Reshape(w{i}_flat, shape{i})" for i in layers),
    ]
    for i in layers:
        lines.append(f"z{i} = Gemm<transB = 1>(h{i}, w{i}, b{i})")
        if i < last:
            lines.append(f"h{i + 1} = {critic.activations[i].onnx}(z{i})")
    lines += [
        f"error = Sub(z{last}, y)",
        "square = ReduceSumSquare<keepdims = 0>(error)",
        f"d{last} = Mul(error, two_over_rows_now)",
    ]
    for i in reversed(layers):
        for parameter, factor in (("w", f"h{i}"), ("b", "ones_now")):  # a third of ReduceSum's time
            lines.append(f"g{parameter}{i} = Gemm<transA = 1>(d{i}, {factor})")
            lines.append(f"g{parameter}{i}_flat = Reshape(g{parameter}{i}, flat)")
        if i > 0:
            lines.append(f"e{i} = MatMul(d{i}, w{i})")
            slope = critic.activations[i - 1].onnx_slope
            lines += [line.format(h=f"h{i}", slope=f"slope{i}") for line in slope]
            lines.append(f"d{i - 1} = Mul(e{i}, slope{i})")
    parts = ", ".join(f"gw{i}_flat, gb{i}_flat" for i in layers)
    return [*lines, f"raw = Concat<axis = 0>({parts})"]


_NO_CLIP = ("g = Identity(raw)",)
# As torch.nn.utils.clip_grad_norm_.
_CLIP = (
    "tiny = Constant<value_float = 1e-6>()",
    "one = Constant<value_float = 1.0>()",
    "norm = ReduceL2<keepdims = 0>(raw)",
    "above_zero = Add(norm, tiny)",
    "fraction = Div(max_norm, above_zero)",
    "factor = Min(fraction, one)",
    "g = Mul(raw, factor)",
)
_ADAM = (
    "m_decayed = Mul(m, beta1)",
    "m_out = Add(m_decayed, g)",
    "v_decayed = Mul(v, beta2)",
    "g_squared = Mul(g, g)",
    "v_out = Add(v_decayed, g_squared)",
    "deviation = Sqrt(v_out)",
    "denominator = Add(deviation, eps_now)",
    "direction = Div(m_out, denominator)",
    "p_step = Mul(direction, length_now)",
    "p_out = Sub(p, p_step)",
)
