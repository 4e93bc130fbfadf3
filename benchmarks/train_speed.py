"""Training speed: ours, sb3-contrib's and the bare environment's.

Each round trains both algorithms for the same number of steps with the same environment, seed and
hyperparameters. It also steps the bare environment with random actions. Each of these runs in its
own process, and ratios are taken within a round. Our environments are those of ``trpo-deploy
train``, or SB3's for the cases with "SB3's environments". The time that a side's environments take
alone is the part that no algorithm can save. Processor time counts all threads, so that it does
not depend on other programs.
Run it with

    python benchmarks/train_speed.py [--case NAME]... [--rounds N] [-o FOLDER]

It writes speeds, ratios and peak memory as ``results/train_speed.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from harness.algorithms import SIDES, Noise, Samples, algorithm, silence
from harness.peak_memory import peak_memory
from harness.report import (
    RESULTS,
    TRUST,
    machine,
    markdown_table,
    spread,
    with_spread,
    write_results,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

PACKAGES = ("torch", "stable-baselines3", "sb3-contrib")
BARE_STEPS = 6000
MUJOCO = {"batch_size": 128, "cg_max_steps": 25, "n_critic_updates": 20}
CHEETAH = {**MUJOCO, "target_kl": 0.04}
GSDE = {"gamma": 0.9, "n_critic_updates": 15, "use_sde": True, "sde_sample_freq": 4}
CARTPOLE = {"batch_size": 512, "cg_damping": 1e-3, "gae_lambda": 0.98, "n_critic_updates": 20}


def frames(**_: Any) -> Noise:
    """An environment with the observations of an Atari game, for a ``CnnPolicy``."""
    return Noise(spaces.Box(0, 255, (84, 84, 4), np.uint8), spaces.Discrete(6))


def digits(**_: Any) -> Samples:
    """An environment with MultiDiscrete observations."""
    return Samples(spaces.MultiDiscrete([10] * 5), spaces.Discrete(4))


def goals(**_: Any) -> Samples:
    """An environment with the observations of Gymnasium-Robotics' FetchReach."""
    sizes = {"achieved_goal": 3, "desired_goal": 3, "observation": 10}
    parts = {key: spaces.Box(-1, 1, (size,)) for key, size in sizes.items()}
    return Samples(spaces.Dict(parts), spaces.Box(-1, 1, (4,)))


for _name, _make in {"Frames-v0": frames, "Digits-v0": digits, "Goals-v0": goals}.items():
    gymnasium.register(_name, entry_point=_make, max_episode_steps=200)


class OwnExtractor(nn.Module):
    """The networks of actor and critic, in a module of the user's own."""

    latent_dim_pi = latent_dim_vf = 64

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.actor, self.critic = (
            nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
            for _ in range(2)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of actor and critic."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Latent of the actor."""
        return self.actor(features)  # type: ignore[no-any-return]

    def forward_critic(self, features: Tensor) -> Tensor:
        """Latent of the critic."""
        return self.critic(features)  # type: ignore[no-any-return]


class OwnPolicy(ActorCriticPolicy):
    """A policy with :class:`OwnExtractor`, as SB3's documentation shows it."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = OwnExtractor(self.features_dim)  # type: ignore[assignment]


class LayerNormPolicy(ActorCriticPolicy):
    """A policy with a ``LayerNorm`` before each activation."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        for name in ("policy_net", "value_net"):
            layers = []
            for layer in getattr(self.mlp_extractor, name):
                is_linear = isinstance(layer, nn.Linear)
                layers += [layer, nn.LayerNorm(layer.out_features)] if is_linear else [layer]
            setattr(self.mlp_extractor, name, nn.Sequential(*layers))


OWN_POLICIES = {each.__name__: each for each in (LayerNormPolicy, OwnPolicy)}


@dataclass(frozen=True)
class Setting:
    """How a side runs its environments."""

    vec_env: str = "sync"
    """``sync``, ``subproc``, ``envpool`` (ours only) or ``sb3``: as SB3's ``make_vec_env``."""
    n_envs: int = 2
    threads: int = 1
    """Torch threads."""


@dataclass(frozen=True)
class Case:
    """A task, and the setting of each side."""

    env_id: str
    hyperparameters: Mapping[str, Any]
    """Those of RL Zoo, without ``n_steps``."""
    rollout: int = 2048
    """Samples for each update, over all environments."""
    updates: int = 6
    policy: str = "MlpPolicy"
    activation: str | None = None
    """A class of ``torch.nn``; None for the policy's own."""
    normalize: bool = True
    ours: Setting = Setting()
    sb3_contrib: Setting = Setting()


# The fastest settings found on two cores: docs/decisions/benchmark-settings.md.
BEST_OF_SB3_CONTRIB = Setting("sync", 64)
BEST_OF_OURS = Setting("envpool", 64)

CASES = {
    "HalfCheetah-v5": Case("HalfCheetah-v5", CHEETAH),
    "Hopper-v5": Case("Hopper-v5", MUJOCO),
    "Ant-v5": Case("Ant-v5", MUJOCO),
    "HalfCheetah-v5, SB3's environments": Case("HalfCheetah-v5", CHEETAH, ours=Setting("sb3")),
    "Hopper-v5, SB3's environments": Case("Hopper-v5", MUJOCO, ours=Setting("sb3")),
    "HalfCheetah-v5-best": Case(
        "HalfCheetah-v5",
        CHEETAH,
        ours=BEST_OF_OURS,
        sb3_contrib=BEST_OF_SB3_CONTRIB,
    ),
    "Ant-v5-best": Case(
        "Ant-v5",
        MUJOCO,
        ours=BEST_OF_OURS,
        sb3_contrib=BEST_OF_SB3_CONTRIB,
    ),
    "CartPole-v1": Case("CartPole-v1", CARTPOLE, rollout=1024, updates=10, normalize=False),
    **{
        f"CartPole-v1, {activation}": Case(
            "CartPole-v1",
            CARTPOLE,
            rollout=1024,
            updates=10,
            activation=activation,
            normalize=False,
        )
        for activation in ("SiLU", "GELU", "Softplus")
    },
    "CartPole-v1, LayerNorm": Case(
        "CartPole-v1",
        CARTPOLE,
        rollout=1024,
        updates=10,
        policy="LayerNormPolicy",
        normalize=False,
    ),
    "CartPole-v1, own extractor": Case(
        "CartPole-v1", CARTPOLE, rollout=1024, updates=10, policy="OwnPolicy", normalize=False
    ),
    "Pendulum-v1, gSDE": Case("Pendulum-v1", GSDE, normalize=False),
    "Discrete observations": Case("FrozenLake-v1", {}, normalize=False),
    "MultiDiscrete observations": Case("Digits-v0", {}, normalize=False),
    "Dict observations": Case("Goals-v0", {}, policy="MultiInputPolicy", normalize=False),
    "Dict observations, normalized": Case("Goals-v0", {}, policy="MultiInputPolicy"),
    "CnnPolicy": Case(
        "Frames-v0",
        {},
        rollout=128,
        updates=2,
        policy="CnnPolicy",
        normalize=False,
    ),
}


class Timed:
    """A callable that adds up the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it."""
        start = time.perf_counter()
        try:
            return self.function(*arguments, **keywords)
        finally:
            self.seconds += time.perf_counter() - start


def make_env(side: str, case: Case, seed: int) -> VecEnv:
    """The environments of a side, made as its users make them."""
    setting: Setting = getattr(case, side)
    if side == "ours" and setting.vec_env != "sb3":
        from trpo_deploy.train.config.train_config import TrainConfig
        from trpo_deploy.train.run.environments import make_training_env

        return make_training_env(
            TrainConfig(
                case.env_id,
                policy="MlpPolicy" if case.policy in OWN_POLICIES else case.policy,
                vec_env=setting.vec_env,
                n_envs=setting.n_envs,
                normalize=case.normalize,
                seed=seed,
            )
        )
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

    kind: Any = SubprocVecEnv if setting.vec_env == "subproc" else DummyVecEnv
    env = make_vec_env(case.env_id, setting.n_envs, seed=seed, vec_env_cls=kind)
    return VecNormalize(env) if case.normalize else env


def train(side: str, case: Case, seed: int) -> dict[str, float]:
    """Speed, seconds in rollout and update, and peak memory (MB) of one run.

    Also the seconds that the same environments take for the same steps without a policy.
    """
    setting: Setting = getattr(case, side)
    warnings.simplefilter("ignore")
    torch.set_num_threads(setting.threads)
    env = make_env(side, case, seed)
    own = {"activation_fn": getattr(nn, case.activation)} if case.activation else {}
    model = algorithm(side)(
        OWN_POLICIES.get(case.policy, case.policy),
        env,
        n_steps=case.rollout // setting.n_envs,
        seed=seed,
        device="cpu",
        policy_kwargs=own,
        **case.hyperparameters,
    )
    silence(model)
    model.learn(case.rollout)  # the first update warms up
    model.collect_rollouts, model.train = Timed(model.collect_rollouts), Timed(model.train)
    start, processor_start = time.perf_counter(), time.process_time()
    model.learn(case.updates * case.rollout, reset_num_timesteps=False)
    elapsed, processor = time.perf_counter() - start, time.process_time() - processor_start
    memory = peak_memory()
    steps = case.updates * case.rollout
    environments = steps / stepped(env.unwrapped, seed)
    env.close()
    return {
        "steps_per_second": steps / elapsed,
        "processor_seconds": processor,
        "environment_seconds": environments,
        "rollout_seconds": model.collect_rollouts.seconds,
        "update_seconds": model.train.seconds,
        "peak_mb": memory,
    }


def stepped(env: VecEnv, seed: int) -> float:
    """Steps/s of a side's environments alone, with random actions."""
    env.action_space.seed(seed)
    actions = [
        np.array([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(64)
    ]
    env.reset()
    steps = BARE_STEPS // env.num_envs
    start = time.perf_counter()
    for i in range(steps):
        env.step(actions[i % len(actions)])
    return steps * env.num_envs / (time.perf_counter() - start)


def bare(env_id: str, seed: int) -> float:
    """Steps/s of one bare environment, with random actions."""
    warnings.simplefilter("ignore")
    env = gymnasium.make(env_id)
    env.action_space.seed(seed)
    actions = [env.action_space.sample() for _ in range(256)]
    env.reset(seed=seed)
    start = time.perf_counter()
    for i in range(BARE_STEPS):
        _, _, terminated, truncated, _ = env.step(actions[i % 256])
        if terminated or truncated:
            env.reset()
    elapsed = time.perf_counter() - start
    env.close()
    return BARE_STEPS / elapsed


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, so that its peak memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Medians and spread over the rounds."""
    case = CASES[name]
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    limits = []
    for seed in range(rounds):
        print(f"{name}, round {seed + 1} of {rounds}", file=sys.stderr, flush=True)
        for side in SIDES:
            runs[side].append(alone(train, side, case, seed))
        limits.append(alone(bare, case.env_id, seed))
    pairs = list(zip(runs["ours"], runs["sb3_contrib"], strict=True))
    speed = "steps_per_second"
    return {
        "name": name,
        "case": asdict(case),
        **{
            side: {key: spread(run[key] for run in runs[side]) for key in runs[side][0]}
            for side in SIDES
        },
        "bare_steps_per_second": spread(limits),
        "ratio_to_sb3_contrib": spread(ours[speed] / theirs[speed] for ours, theirs in pairs),
        "processor_ratio_to_sb3_contrib": spread(
            theirs["processor_seconds"] / ours["processor_seconds"] for ours, theirs in pairs
        ),
        "ratio_to_bare": spread(
            ours[speed] / limit for ours, limit in zip(runs["ours"], limits, strict=True)
        ),
        "memory_ratio": spread(ours["peak_mb"] / theirs["peak_mb"] for ours, theirs in pairs),
    }


def ratios(rows: list[dict[str, Any]]) -> str:
    """Speeds and ratios."""
    header = "case|ours, steps/s|sb3-contrib|bare|to sb3-contrib|in processor time|to bare"
    header += "|memory to sb3-contrib"
    return markdown_table(
        header.split("|"),
        [
            [
                row["name"],
                *(f"{row[side]['steps_per_second']['median']:,.0f}" for side in SIDES),
                f"{row['bare_steps_per_second']['median']:,.0f}",
                with_spread(row["ratio_to_sb3_contrib"]),
                with_spread(row["processor_ratio_to_sb3_contrib"]),
                with_spread(row["ratio_to_bare"]),
                with_spread(row["memory_ratio"]),
            ]
            for row in rows
        ],
    )


def sides(rows: list[dict[str, Any]]) -> str:
    """Setting, time by phase and memory of each side."""
    header = "case|side|environments|torch threads|steps|environments alone s|rollout s"
    header += "|update s|peak MB"
    return markdown_table(
        header.split("|"),
        [
            [
                row["name"],
                side.replace("_", "-"),
                "{vec_env}, {n_envs}".format(**row["case"][side]),
                str(row["case"][side]["threads"]),
                str(row["case"]["updates"] * row["case"]["rollout"]),
                *(
                    f"{row[side][f'{phase}_seconds']['median']:.2f}"
                    for phase in ("environment", "rollout", "update")
                ),
                f"{row[side]['peak_mb']['median']:.0f}",
            ]
            for row in rows
            for side in SIDES
        ],
    )


def report(rows: list[dict[str, Any]], rounds: int) -> str:
    """Both tables, and the machine."""
    return (
        f"Medians of {rounds} pairs (minimum - maximum): {machine(*PACKAGES)}. {TRUST}\n\n"
        f"{ratios(rows)}\n{sides(rows)}"
    )


def main() -> None:
    """Measure the cases, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="repeatable (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in arguments.case or CASES:
        rows.append(measure(name, arguments.rounds))
        # After each case: all of them take long, and the run may be interrupted.
        values = {"machine": machine(*PACKAGES), "rounds": arguments.rounds, "cases": rows}
        text = report(rows, arguments.rounds)
        write_results("train_speed", values, text, arguments.output)


if __name__ == "__main__":
    main()
