"""The targets of ``bundle``. A new one is an entry here and a module. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trpo_deploy.errors import ServeError

DEFAULT = "bento"


@dataclass(frozen=True)
class Target:
    """A platform that policies are packed for."""

    summary: str
    """What it writes, for ``--help``."""
    module: str
    """Module with the functions of :class:`~trpo_deploy.serve.bundles.target.TargetModule`."""
    models_from: tuple[str, ...] = ()
    """Places from which its service may read the models, the default first; empty: no choice."""


TARGETS: Mapping[str, Target] = {
    "bento": Target("a Bento, for Docker and BentoML", "trpo_deploy.serve.bundles.bento"),
    "kubernetes": Target(
        "a Kustomize base",
        "trpo_deploy.serve.bundles.kubernetes.target",
        models_from=("image", "volume", "configmap"),
    ),
    "kserve": Target("InferenceServices", "trpo_deploy.serve.bundles.kserve"),
    "triton": Target("a model repository", "trpo_deploy.serve.bundles.triton.target"),
}


def find_target(name: str) -> Target:
    """The target of a name.

    Raises:
        ServeError: The name is unknown.
    """
    if name not in TARGETS:
        raise ServeError(f"unknown target {name!r}; expected one of {', '.join(TARGETS)}")
    return TARGETS[name]


def check_models_from(target: str, place: str | None) -> str:
    """The place from which the service reads the models; the target's default for None.

    Raises:
        ServeError: The target is unknown, or does not offer the place.
    """
    places = find_target(target).models_from
    if place is None:
        return places[0] if places else ""
    if place not in places:
        expected = f"expected one of {', '.join(places)}" if places else "leave it out"
        raise ServeError(f"--models-from {place} does not apply to the target {target}; {expected}")
    return place
