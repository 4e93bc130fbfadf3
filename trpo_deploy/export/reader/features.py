"""SB3's features extractors as plain layers; custom ones as traced subgraphs."""

from __future__ import annotations

from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from torch import nn

from trpo_deploy.export.policy.features import Branch, Features
from trpo_deploy.export.policy.layers import Flatten, Layer
from trpo_deploy.export.reader.layers import read_layers
from trpo_deploy.export.reader.traced import traced_features
from trpo_deploy.spec.policy_spec import OBS


def read_features(
    extractor: BaseFeaturesExtractor, policy: ActorCriticPolicy, names: tuple[str, ...]
) -> Features:
    """A features extractor of any class.

    Args:
        extractor: The actor's or the critic's extractor.
        policy: The policy, whose observation space gives an example for tracing.
        names: Names of the observations.

    Raises:
        ExportError: A layer cannot be exported.
    """
    # By its exact class: a subclass may compute something else.
    kind = type(extractor)
    if kind is FlattenExtractor:
        return (Branch(OBS, (Flatten(),)),)
    if kind is NatureCNN:
        return (Branch(OBS, _nature_cnn(extractor)),)
    if kind is CombinedExtractor:
        # SB3 concatenates the features in the order of the modules.
        assert isinstance(extractor.extractors, nn.ModuleDict)
        return tuple(
            Branch(key, _nature_cnn(each) if isinstance(each, NatureCNN) else (Flatten(),))
            for key, each in extractor.extractors.items()
        )
    return traced_features(extractor, policy, names)


def _nature_cnn(extractor: nn.Module) -> tuple[Layer, ...]:
    assert isinstance(extractor, NatureCNN)
    return read_layers([*extractor.cnn, *extractor.linear])
