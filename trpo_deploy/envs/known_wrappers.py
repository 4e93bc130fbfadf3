"""Wrappers of known libraries, by name: what they change, and what they keep after an episode."""

from __future__ import annotations

import re

# Neither observations, actions, rewards nor the length of episodes depend on these. TimeLimit is an
# argument of gymnasium.make.
WITHOUT_EFFECT = frozenset(
    {
        "gymnasium.wrappers:HumanRendering",
        "gymnasium.wrappers:OrderEnforcing",
        "gymnasium.wrappers:PassiveEnvChecker",
        "gymnasium.wrappers:RecordEpisodeStatistics",
        "gymnasium.wrappers:RecordVideo",
        "gymnasium.wrappers:RenderCollection",
        "gymnasium.wrappers:TimeLimit",
        "rl_zoo3.gym_patches:PatchedTimeLimit",  # in place of Gymnasium's, once rl_zoo3 is imported
        "sb3_contrib.common.wrappers.action_masker:ActionMasker",
        "stable_baselines3.common.monitor:Monitor",
        "trpo_deploy.train.vec_env.checked:ReportingEnv",
        "trpo_deploy.train.vec_env.episode_monitor:EpisodeMonitor",
    }
)
# These change rewards or the episodes' ends only.
OF_THE_TASK = frozenset(
    {
        "gymnasium.wrappers:ClipReward",
        "gymnasium.wrappers:NormalizeReward",
        "gymnasium.wrappers:TransformReward",
        "stable_baselines3.common.atari_wrappers:ClipRewardEnv",
        "stable_baselines3.common.atari_wrappers:EpisodicLifeEnv",
        "stable_baselines3.common.atari_wrappers:FireResetEnv",
        "stable_baselines3.common.atari_wrappers:NoopResetEnv",
    }
)

# These learn from the training and keep what they learned: VecNormalize does the same in a file of
# the model. The value is the setting of a run that replaces them.
STATISTICS = {
    "gymnasium.wrappers:NormalizeObservation": "{norm_obs: true, norm_reward: false}",
    "gymnasium.wrappers:NormalizeReward": "{norm_obs: false, norm_reward: true}",
}


def class_name(instance: object) -> str:
    """``module:Class``, in the public module of Gymnasium's wrappers."""
    return public_name(f"{type(instance).__module__}:{type(instance).__name__}")


def public_name(name: str) -> str:
    """``module:Class`` with the public module of Gymnasium's wrappers."""
    return re.sub(r"^gymnasium\.wrappers(\.\w+)+:", "gymnasium.wrappers:", name)
