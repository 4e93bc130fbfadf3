"""Time for one action in a control loop, beside the same call back to back.

A loop of 500 Hz sleeps between two actions. Meanwhile other work takes the caches and the core
slows down, so a call takes several times as long as back to back. All compute the same policy,
Hopper-v5, in one thread and take turns in each round. Rounds are short: a shared core changes its
speed every few seconds, and a ratio is fair only within one speed. Run it with

    python benchmarks/control_loop.py [--rounds N] [--calls N] [--variants]

It needs the extras ``train``, ``export`` and ``mujoco``, and writes ``results/control_loop.md`` and
``.json``. As root it runs with the real-time scheduler SCHED_FIFO. ``--variants`` compares settings
of onnxruntime and of the process instead, and writes ``results/control_loop_variants.md``.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import onnxruntime as ort
import torch
from harness.report import TRUST, machine, markdown_table, median_ratio, write_results
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from trpo_deploy.export import TargetOptions, export_file, export_policy
from trpo_deploy.export.targets.c.compiler import Compiler
from trpo_deploy.export.targets.c.library import load_act
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import Controller, OnnxPolicy, Session
from trpo_deploy.train import TRPO

MODEL = Path(__file__).parents[1] / "models" / "Hopper-v5"
PERIOD = 0.002
WARM_UP = 50
PRIORITY = 50
BARE = "bare onnxruntime `session.run`"
PREDICT = "`OnnxPolicy.predict`"
CONTROLLER = "`Controller.act`"
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}

Act = Callable[[Any], Any]
Times = dict[str, list[list[float]]]
"""By function, a list of microseconds for each round."""


class Call(NamedTuple):
    """A function to measure."""

    act: Act
    takes_batch: bool = False
    """Whether an observation has a batch axis of 1."""
    before: Callable[[], object] = lambda: None
    """What the loop does before each call, while it waits."""
    process: Callable[[], Any] = nullcontext
    """Setting of the process."""


def calls(policy: OnnxPolicy) -> dict[str, Call]:
    """The same policy, called in several ways."""
    controller = make_controller(policy)
    return {
        BARE: bare(policy),
        PREDICT: Call(lambda obs: policy.predict(obs)[0]),
        "`Session.act`": Call(Session(policy).act),
        CONTROLLER: Call(lambda obs: controller.act(obs, time.monotonic())),
        "generated C, called with ctypes": Call(generated_c(policy)),
        "SB3 `model.predict`": Call(sb3_predict()),
    }


def variants(policy: OnnxPolicy) -> dict[str, Call]:
    """Bare onnxruntime with other settings, and the controller in other processes."""
    act = make_controller(policy).act
    controlled = Call(lambda obs: act(obs, time.monotonic()))
    bound = policy.bind(["action"])
    (array,) = bound.inputs.values()

    def with_binding(obs: Any) -> Any:
        np.copyto(array, obs)
        bound.run()

    zero = np.zeros(11, np.float32)
    return {
        BARE: bare(policy),
        "bare, `session.intra_op.allow_spinning` 0": bare(policy, spinning=False),
        "bare, without arena": bare(policy, arena=False),
        "bare, without optimised layout of weights": bare(policy, prepacking=False),
        "bare, `RunOptions` made once": bare(policy, options=ort.RunOptions()),
        "bare, arrays bound once": Call(with_binding, takes_batch=True),
        CONTROLLER: controlled,
        f"{CONTROLLER}, pinned to one core": controlled._replace(process=pinned),
        f"{CONTROLLER}, `gc.freeze`": controlled._replace(process=frozen),
        f"{CONTROLLER}, after a call of the policy while waiting": controlled._replace(
            before=lambda: policy.predict(zero)
        ),
    }


def make_controller(policy: OnnxPolicy) -> Controller:
    """A controller without faults, whatever the loop's pace."""
    names = [each.name for each in policy.spec.observation_components["obs"]]
    return Controller(
        policy,
        observation_order=names[::-1],
        action_order=[each.name for each in policy.spec.action_components][::-1],
        period=PERIOD,
        period_tolerance=10,
        safe_action=0.0,
        max_age=1.0,
        max_delay=1e6,
    )


def bare(
    policy: OnnxPolicy,
    *,
    spinning: bool = True,
    arena: bool = True,
    prepacking: bool = True,
    options: Any = None,
) -> Call:
    """Bare onnxruntime."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.enable_cpu_mem_arena = arena
    if not spinning:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepacking:
        settings.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(policy.path, settings)
    if options is None:
        return Call(lambda obs: session.run(["action"], {"obs": obs}), takes_batch=True)
    return Call(lambda obs: session.run(["action"], {"obs": obs}, options), takes_batch=True)


def generated_c(policy: OnnxPolicy) -> Act:
    """The policy as C. ``ctypes`` takes a part of the time; a loop in C is faster."""
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-c-") as folder:
        export_file(policy.path, TargetOptions("c", Path(folder) / "c", "hopper"), verify=False)
        act = load_act(Compiler.find(), Path(folder) / "c", "hopper")
    action = (ctypes.c_float * 3)()

    def call(observation: Any) -> Any:
        act(ctypes.c_void_p(observation.ctypes.data), action)
        return action

    return call


def sb3_predict() -> Act:
    """The policy as Stable-Baselines3 runs it."""
    model = TRPO.load(MODEL / "policy.zip", device="cpu")
    venv = DummyVecEnv([lambda: gymnasium.make("Hopper-v5")])
    env = VecNormalize.load(str(MODEL / "vecnormalize.pkl"), venv)
    return lambda obs: model.predict(env.normalize_obs(obs), deterministic=True)[0]


@contextmanager
def pinned() -> Iterator[None]:
    """Run on one core only."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)


@contextmanager
def frozen() -> Iterator[None]:
    """Keep the objects of now out of garbage collection."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def observations() -> list[Any]:
    """Observations of one episode, float32."""
    with gymnasium.make("Hopper-v5") as env:
        found = [env.reset(seed=0)[0]]
        env.action_space.seed(0)
        while len(found) < WARM_UP:
            observation, _, over, *_ = env.step(env.action_space.sample())
            found.append(env.reset()[0] if over else observation)
    return [each.astype(np.float32) for each in found]


def in_loop(call: Call, inputs: list[Any], number: int) -> list[float]:
    """Microseconds of each call of a loop with :data:`PERIOD`."""
    times = np.empty(number)
    due = time.monotonic()
    for index in range(number):
        due += PERIOD
        call.before()
        time.sleep(max(0.0, due - time.monotonic()))
        start = time.perf_counter_ns()
        call.act(inputs[index % len(inputs)])
        times[index] = time.perf_counter_ns() - start
    return list(times / 1e3)


def back_to_back(call: Call, inputs: list[Any], number: int) -> list[float]:
    """Microseconds of each call without a pause."""
    times = np.empty(number)
    for index in range(number):
        start = time.perf_counter_ns()
        call.act(inputs[index % len(inputs)])
        times[index] = time.perf_counter_ns() - start
    return list(times / 1e3)


def measure(compared: dict[str, Call], rounds: int, number: int) -> tuple[Times, Times]:
    """Times in the loop and back to back. The functions take turns."""
    flat = observations()
    batches = [each[np.newaxis] for each in flat]
    looped: Times = {name: [] for name in compared}
    hot: Times = {name: [] for name in compared}
    for _ in range(rounds):
        for name, call in compared.items():
            inputs = batches if call.takes_batch else flat
            with call.process():
                back_to_back(call, inputs, WARM_UP)
                hot[name].append(back_to_back(call, inputs, number))
                in_loop(call, inputs, WARM_UP)
                looped[name].append(in_loop(call, inputs, number))
    return looped, hot


def use_real_time() -> str:
    """Ask for SCHED_FIFO; what the process has, in words."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except (AttributeError, PermissionError):
        return "the default scheduler (SCHED_FIFO was not permitted)"
    return f"SCHED_FIFO with priority {PRIORITY}"


def table(times: Times) -> str:
    """Quantiles of all calls, and ratios to bare onnxruntime.

    A round has too few calls for p99.9, so that ratio is of all calls.
    """
    rows = []
    bare_tail = quantiles(times[BARE])["p99.9"]
    for name, measured in times.items():
        values = quantiles(measured)
        ratios = median_ratio(measured, times[BARE], statistics.median), values["p99.9"] / bare_tail
        rows.append([name, *(f"{q:.1f}" for q in values.values()), *(f"{r:.2f}" for r in ratios)])
    header = ["function", *(f"{name} µs" for name in QUANTILES), "p50 ÷ bare", "p99.9 ÷ bare"]
    return markdown_table(header, rows)


def over_predict(times: Times) -> float:
    """Microseconds that the controller takes over ``predict``: the rounds' median of p50."""
    pairs = zip(times[CONTROLLER], times[PREDICT], strict=True)
    return float(np.median([np.median(a) - np.median(b) for a, b in pairs]))


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=200, help="in each round (default: 200)")
    parser.add_argument("--variants", action="store_true", help="compare settings instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-loop-") as folder:
        path = Path(folder) / "policy.onnx"
        export_policy(find_run(MODEL), path, verify=False)
        policy = OnnxPolicy(path)
        compared = variants(policy) if options.variants else calls(policy)
        scheduler = use_real_time()
        looped, hot = measure(compared, options.rounds, options.calls)
    load = os.getloadavg()[0]
    head = (
        f"{options.rounds} rounds of {options.calls} calls, {1 / PERIOD:.0f} Hz, {scheduler}, load "
        f"{load:.1f}: {machine('onnxruntime', 'torch')}. {TRUST}\n\n"
        "Quantiles are of all calls. The ratio of p50 is the median of the rounds' ratios.\n"
    )
    text = f"{head}\n## In the loop\n\n{table(looped)}\n## Back to back\n\n{table(hot)}"
    if not options.variants:
        text += (
            f"\nThe controller takes {over_predict(looped):.1f} µs more than `OnnxPolicy.predict` "
            f"in the loop, {over_predict(hot):.1f} µs back to back.\n"
        )
    values = {"in_loop": summary(looped), "back_to_back": summary(hot)}
    write_results("control_loop_variants" if options.variants else "control_loop", values, text)


def quantiles(measured: list[list[float]]) -> dict[str, float]:
    """Quantiles of all rounds' calls, in microseconds."""
    values = np.quantile(np.concatenate(measured), list(QUANTILES.values())).round(2).tolist()
    return dict(zip(QUANTILES, values, strict=True))


def summary(times: Times) -> dict[str, dict[str, Any]]:
    """Quantiles of all calls, and the p50 of each round."""
    return {
        name: {
            **quantiles(each),
            "p50 of each round": [round(statistics.median(r), 2) for r in each],
        }
        for name, each in times.items()
    }


if __name__ == "__main__":
    main()
