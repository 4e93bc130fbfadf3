"""Behaviour cloning: imitate the actions of a Minari dataset, then improve the policy with TRPO.

    pip install "minari[hdf5]"
    minari download mujoco/hopper/expert-v0
    python examples/behaviour_cloning.py mujoco/hopper/expert-v0 [-o cloned] [--passes 10]
    trpo-deploy train Hopper-v5 --init cloned

The dataset's observations are a Box. The folder gets the policy, and the statistics that normalise
its observations.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.utils.data import DataLoader, TensorDataset

from trpo_deploy import TRPO


def clone(name: str, folder: Path, passes: int) -> None:
    """Fit the actor to a dataset by maximum likelihood, and write policy and statistics."""
    import minari  # here, since --help needs no Minari

    dataset = minari.load_dataset(name)
    if not isinstance(dataset.observation_space, spaces.Box):
        found = f"{name} has the observations {dataset.observation_space}"
        raise SystemExit(f"behaviour_cloning: {found}, expected a Box")
    env = VecNormalize(DummyVecEnv([dataset.recover_environment]), norm_reward=False)
    # An episode has one observation more than actions.
    observations = np.concatenate([episode.observations[:-1] for episode in dataset])
    actions = np.concatenate([episode.actions for episode in dataset])
    env.obs_rms.update(observations)
    policy = (model := TRPO("MlpPolicy", env, device="cpu")).policy
    # The standard deviation stays: that of an expert would leave TRPO nothing to explore.
    cloned = [each for key, each in policy.named_parameters() if key != "log_std"]
    optimizer = torch.optim.Adam(cloned, lr=1e-3)
    samples = TensorDataset(
        torch.as_tensor(env.normalize_obs(observations)), torch.as_tensor(actions)
    )
    for number in range(passes):
        for batch in DataLoader(samples, batch_size=256, shuffle=True):
            loss = -policy.evaluate_actions(*batch)[1].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"pass {number + 1}: negative log-likelihood of the last batch {loss.item():.3f}")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "policy")
    env.save(str(folder / "vecnormalize.pkl"))


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", help="id of a local Minari dataset")
    parser.add_argument("-o", "--output", type=Path, default=Path("cloned"), help="folder to write")
    parser.add_argument("--passes", type=int, default=10, help="passes over the dataset")
    options = parser.parse_args()
    try:
        clone(options.dataset, options.output, options.passes)
    except FileNotFoundError as error:
        download = f"get it with: minari download {options.dataset}"
        raise SystemExit(f"behaviour_cloning: {error}; {download}") from error


if __name__ == "__main__":
    main()
