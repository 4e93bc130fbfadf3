"""Train TRPO policies with Stable-Baselines3. Needs the extra ``train``."""

from trpo_deploy.train.checkpoint import settings_to_resume
from trpo_deploy.train.config import TrainConfig, load_config
from trpo_deploy.train.evaluate import Evaluation, evaluate
from trpo_deploy.train.trainer import Reports, TrainResult, train
from trpo_deploy.train.trpo import TRPO

__all__ = [
    "TRPO",
    "Evaluation",
    "Reports",
    "TrainConfig",
    "TrainResult",
    "evaluate",
    "load_config",
    "settings_to_resume",
    "train",
]
