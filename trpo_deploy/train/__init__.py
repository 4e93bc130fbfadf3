"""Train TRPO policies with Stable-Baselines3. Needs the extra ``train``."""

from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.resume import settings_to_resume
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.distributed.launch import joined
from trpo_deploy.train.run.ranks import follow
from trpo_deploy.train.run.trainer import Reports, TrainResult, train

__all__ = [
    "TRPO",
    "Reports",
    "TrainConfig",
    "TrainResult",
    "follow",
    "joined",
    "load_config",
    "settings_to_resume",
    "train",
]
