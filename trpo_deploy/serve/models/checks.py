"""The checks of a model before it is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trpo_deploy.errors import ObservationError, ServeError
from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.spec.components import Component, periods_differ
from trpo_deploy.spec.nested_lists import array_from_lists
from trpo_deploy.spec.spaces import Array, Json

_GOLDEN_TOLERANCE = 1e-4
"""For float32 actions. Machines sum in different orders, which changes results by about 1e-6."""


def check_model(
    model: ServedModel, replaced: Sequence[OnnxPolicy], *, needs_certificate: bool
) -> None:
    """Check a model's certificate, an action, the golden action, its spaces and names.

    Args:
        model: The model.
        replaced: The policies that are served under its name now.
        needs_certificate: Whether it must have a certificate.

    Raises:
        ServeError: The policy failed a check and must not be served.
    """
    policy, certificate = model.policy, model.certificate
    if certificate is not None:
        _check_certificate(certificate, policy)
    elif needs_certificate:
        raise ServeError(
            f"{policy.path} has no certificate, and one is required; write it with: trpo-deploy "
            "verify (--no-require-certificate serves policies without one)"
        )
    _check_action(policy)
    if certificate is not None and certificate.get("golden") is not None:
        _check_golden(policy, certificate["golden"])
    for old in replaced:
        _check_spaces(policy, old)
        _check_meaning(policy, old)


def _check_certificate(certificate: Json, policy: OnnxPolicy) -> None:
    """Check that a certificate certifies this file."""
    path = certificate_path(policy.path)
    try:
        verdict, certified = certificate["verdict"], certificate["sha256"]["policy.onnx"]
    except (KeyError, TypeError) as error:
        raise ServeError(
            f"{path} is not a certificate ({error!r}); write it again with: trpo-deploy verify"
        ) from error
    if verdict != "pass":
        raise ServeError(f"{path} says {verdict!r}: the file is not the trained policy")
    if certified != policy.sha256:
        raise ServeError(
            f"{path} certifies another file: SHA-256 {str(certified)[:12]}, {policy.path.name} has "
            f"{policy.sha256[:12]}; write it again with: trpo-deploy verify"
        )


def _check_action(policy: OnnxPolicy) -> None:
    """Run the policy once, so that a broken file fails now and not at the first request."""
    one, _ = policy.spec.validate(policy.spec.sample_observation(np.random.default_rng(0)))
    three = {name: np.concatenate([array] * 3) for name, array in one.items()}
    actions = _act(policy, three)
    space = policy.spec.action_space
    expected = (3, *space.shape)
    if actions.shape != expected or actions.dtype != space.dtype:
        raise ServeError(
            f"{policy.path} returns actions of {actions.dtype} {actions.shape}, its spec says "
            f"{space.dtype} {expected}; export the policy again"
        )
    try:
        space.check_values(actions, "action")
    except ObservationError as error:
        raise ServeError(f"{policy.path} returns an action outside its space: {error}") from error


def _act(policy: OnnxPolicy, inputs: dict[str, Array]) -> Array:
    """Run the policy; any exception becomes a :class:`ServeError`."""
    try:
        return policy.step(inputs)[0]
    except Exception as error:  # onnxruntime's exceptions have no public base class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServeError(f"{policy.path} cannot be run ({reason})") from error


def _check_golden(policy: OnnxPolicy, golden: Any) -> None:
    """Compare the policy's action with the one recorded at the export."""
    try:
        inputs, batched = policy.spec.validate(golden["observation"])
        actions = _act(policy, inputs)
        want = array_from_lists(golden["action"], actions.dtype)
        want = want if batched else want[np.newaxis]
        same = want.shape == actions.shape and np.allclose(
            actions, want, rtol=_GOLDEN_TOLERANCE, atol=_GOLDEN_TOLERANCE
        )
    except (ObservationError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ServeError(
            f"the golden sample of {policy.path} cannot be run: {error}; write the certificate "
            "again with: trpo-deploy verify"
        ) from error
    if not same:
        raise ServeError(
            f"{policy.path} does not return its golden action: expected {want.tolist()}, "
            f"received {actions.tolist()}"
        )


def _check_spaces(new: OnnxPolicy, old: OnnxPolicy) -> None:
    """Refuse a replacement with other inputs or outputs: running clients would break."""
    for what in ("observation_space", "action_space"):
        before, after = getattr(old.spec, what), getattr(new.spec, what)
        if before.to_json() != after.to_json():
            raise ServeError(
                f"{new.path} has the {what} {after.describe()}, the served model has "
                f"{before.describe()}; serve it under another name"
            )
    if new.spec.states != old.spec.states:
        raise ServeError(
            f"{new.path} has the states {[s.input.name for s in new.spec.states]}, the served "
            f"model has {[s.input.name for s in old.spec.states]}; serve it under another name"
        )


def _check_meaning(new: OnnxPolicy, old: OnnxPolicy) -> None:
    """Refuse a replacement whose numbers mean something else: running robots would move wrongly.

    A fact that one of both files lacks is not compared.
    """
    before, after = old.spec, new.spec
    pairs = [
        (f"the observation {key!r}", components, after.observation_components.get(key, ()))
        for key, components in before.observation_components.items()
    ]
    for what, was, now in [
        *pairs,
        ("the action", before.action_components, after.action_components),
    ]:
        for index, (one, other) in enumerate(zip(was, now, strict=False)):
            unit_differs = None not in (one.unit, other.unit) and one.unit != other.unit
            if one.name != other.name or unit_differs:
                raise ServeError(
                    f"{new.path} has {_words(other)} at index {index} of {what}, the served model "
                    f"has {_words(one)}; serve it under another name"
                )
    if periods_differ(before.period, after.period):
        raise ServeError(
            f"{new.path} has a control period of {after.period} s, the served model one of "
            f"{before.period} s; serve it under another name"
        )


def _words(component: Component) -> str:
    return component.name if component.unit is None else f"{component.name} in {component.unit}"
