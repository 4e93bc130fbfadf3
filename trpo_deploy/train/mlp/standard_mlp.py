"""Recognises policies that are two dense networks on flat features, or have SB3's methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.torch_layers import (
    CombinedExtractor,
    FlattenExtractor,
    MlpExtractor,
)
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from trpo_deploy.sb3.squashed import SquashedCnnPolicy, SquashedMlpPolicy, SquashedMultiInputPolicy
from trpo_deploy.train.mlp.dense_network import DenseNetwork, dense_network
from trpo_deploy.train.update.as_written import computes_as, is_as_written, is_from_library


@dataclass(frozen=True, eq=False)
class StandardMlp:
    """An actor and a critic without shared parameters."""

    actor: DenseNetwork
    critic: DenseNetwork
    log_std: nn.Parameter | None
    """Parameter of a Gaussian or of gSDE's noise; None for the other distributions."""

    @property
    def actor_parameters(self) -> list[nn.Parameter]:
        """The parameters that the distribution depends on, in the policy's order."""
        return [*([] if self.log_std is None else [self.log_std]), *self.actor.parameters]


_POLICIES = (
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
    SquashedMlpPolicy,
    SquashedMultiInputPolicy,
)
_BUILT_BY = frozenset(
    (
        "__init__",
        "_build",
        "_build_mlp_extractor",
        "_get_constructor_parameters",
        "init_weights",
        "make_features_extractor",
    )
)
"""Methods that make modules. A subclass may replace them, since the modules themselves are read."""
_DISTRIBUTIONS = (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)


def standard_mlp(policy: ActorCriticPolicy) -> StandardMlp | None:
    """The policy as two dense networks, or None if it is, or may be, anything else."""
    known = (
        computes_as(policy, *_POLICIES, but=_BUILT_BY)
        and computes_as(policy.mlp_extractor, MlpExtractor, but=_BUILT_BY)
        and _flattens(policy.pi_features_extractor)
        and _flattens(policy.vf_features_extractor)
        and is_as_written(policy.action_dist, *_DISTRIBUTIONS)
        and not getattr(policy.action_dist, "learn_features", False)
        and type(policy.action_net) is nn.Linear
        and not _is_hooked_anywhere(policy)
    )
    if not known:
        return None
    actor = dense_network([policy.mlp_extractor.policy_net, policy.action_net])
    critic = dense_network([policy.mlp_extractor.value_net, policy.value_net])
    if actor is None or critic is None:
        return None
    continuous = (DiagGaussianDistribution, StateDependentNoiseDistribution)
    log_std = policy.log_std if isinstance(policy.action_dist, continuous) else None
    found = StandardMlp(actor, critic, log_std)
    of_actor = [id(parameter) for parameter in found.actor_parameters]
    of_critic = [id(parameter) for parameter in critic.parameters]
    trained = [id(parameter) for parameter in policy.parameters() if parameter.requires_grad]
    # Each parameter once: otherwise actor and critic share one.
    if sorted(of_actor + of_critic) != sorted(trained):
        return None
    # Conjugate gradient starts from random numbers in the policy's order.
    return found if [each for each in trained if each in of_actor] == of_actor else None


def has_sb3s_methods(policy: ActorCriticPolicy) -> bool:
    """Whether a policy, with any modules, computes actions and values by SB3's methods.

    A subclass may make other modules, and must not replace any other method.
    """
    return (
        computes_as(policy, *_POLICIES, ActorCriticCnnPolicy, SquashedCnnPolicy, but=_BUILT_BY)
        and _has_halves(policy.mlp_extractor)
        and is_as_written(policy.action_dist, *_DISTRIBUTIONS)
        and not _is_hooked_anywhere(policy)
    )


def _has_halves(extractor: nn.Module) -> bool:
    """Whether ``forward`` is ``forward_actor`` and ``forward_critic``, which a rollout calls.

    For a class that does not derive from SB3's this is assumed.
    """
    halves = _BUILT_BY | {"forward_actor", "forward_critic"}
    return not isinstance(extractor, MlpExtractor) or computes_as(
        extractor, MlpExtractor, but=halves
    )


def _flattens(extractor: nn.Module) -> bool:
    """Whether an extractor only flattens observations, or each part of a Dict."""
    if isinstance(extractor, CombinedExtractor):
        only_flatten = all(type(part) is nn.Flatten for part in extractor.extractors.values())
        return only_flatten and is_as_written(extractor, CombinedExtractor)
    return is_as_written(extractor, FlattenExtractor)


_FORWARD = frozenset(("forward", "forward_actor", "forward_critic"))
_HOOKS_OF_MODULES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_HOOKS_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def _is_hooked_anywhere(policy: ActorCriticPolicy) -> bool:
    """Whether hooks or replaced ``forward`` methods exist, which the fast path would skip."""
    return (
        any(getattr(torch_modules, f"_global{name}") for name in _HOOKS_OF_MODULES)
        or any(map(_is_hooked, policy.modules()))
        or any(
            getattr(each, name, None)
            for each in policy.parameters()
            for name in _HOOKS_OF_PARAMETERS
        )
    )


def _is_hooked(module: nn.Module) -> bool:
    own, cls = vars(module), type(module)
    return (
        not _FORWARD.isdisjoint(own)
        or any(map(own.get, _HOOKS_OF_MODULES))
        or (cls.__module__.startswith("torch.") and not is_from_library(cls.forward))
    )


def network_input(policy: ActorCriticPolicy, observations: Any, extractor: nn.Module) -> Tensor:
    """Input of the actor's or the critic's network, ``(batch, features)``.

    ``ActorCriticPolicy.extract_features`` returns a pair where the two do not share an extractor.
    """
    features: Tensor = BasePolicy.extract_features(policy, observations, extractor)  # type: ignore[arg-type]
    return features
