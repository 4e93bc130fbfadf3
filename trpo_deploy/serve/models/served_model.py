"""One loaded version of a model, and the checks that it passes before it is served."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from trpo_deploy.errors import ObservationError, ServeError
from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import Array, BoxSpace, Json

_GOLDEN_TOLERANCE = 1e-4
"""Of a golden action in float32: other machines add up in another order (some 1e-6)."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A policy under a name and version."""

    name: str
    version: str
    policy: OnnxPolicy
    certificate: Json | None
    """The proof that the file is the trained policy, if it lies beside it."""
    json_tail: bytes = field(init=False)
    """What follows the action in a JSON answer; it is the same for every request."""
    v2_head: bytes = field(init=False)
    """How an answer under ``/v2`` begins."""
    bounds: dict[str, tuple[Array, Array]] = field(init=False)
    """Lower and upper bounds of the inputs that have finite ones, in the input's dtype."""

    def __post_init__(self) -> None:
        names = orjson.dumps({"model": self.name, "version": self.version})
        object.__setattr__(self, "json_tail", b"," + names[1:])
        v2_names = orjson.dumps({"model_name": self.name, "model_version": self.version})
        object.__setattr__(self, "v2_head", v2_names[:-1])
        object.__setattr__(self, "bounds", _bounds(self.policy))

    def validate(self, observation: object, settings: Settings) -> tuple[dict[str, Array], bool]:
        """Check an observation against the policy's spaces and the service's limits.

        Returns:
            The ONNX inputs, each with its batch axis, and whether a batch came.

        Raises:
            RequestError: the observation is not one that the policy takes, or too many.
        """
        try:
            inputs, batched = self.policy.spec.validate(observation)
            if self.bounds and settings.out_of_bounds != "accept":
                self._keep_in_bounds(inputs, clip=settings.out_of_bounds == "clip")
        except ObservationError as error:
            raise RequestError.of_observation(error) from error
        size = len(next(iter(inputs.values()))) if batched else 1
        if size > settings.max_batch:
            raise RequestError(
                413,
                "batch_too_large",
                f"{size} observations in one request, at most {settings.max_batch}; send fewer",
                field="observation",
                expected=f"at most {settings.max_batch} observations",
                received=str(size),
            )
        return inputs, batched

    def _keep_in_bounds(self, inputs: dict[str, Array], *, clip: bool) -> None:
        for name, (low, high) in self.bounds.items():
            array = inputs[name]
            if clip:
                inputs[name] = np.minimum(np.maximum(array, low), high)
                continue
            wrong = (array < low) | (array > high)
            if np.count_nonzero(wrong):
                space = self.policy.spec.observation_spaces[name]
                raise ObservationError(
                    name,
                    f"numbers within the bounds of {space.describe()} (the service can clip or "
                    "accept others: --out-of-bounds)",
                    str(array[wrong][0]),
                    kind="out_of_range",
                )


def _bounds(policy: OnnxPolicy) -> dict[str, tuple[Array, Array]]:
    bounds = {}
    for name, space in policy.spec.observation_spaces.items():
        if not isinstance(space, BoxSpace):
            continue  # the others have no values beyond their bounds that validate would pass
        with np.errstate(over="ignore"):  # a float64 bound beyond float32 is none
            low, high = space.low.astype(space.dtype), space.high.astype(space.dtype)
        limits = np.iinfo(space.dtype) if space.dtype.kind != "f" else np.finfo(space.dtype)
        if (low > limits.min).any() or (high < limits.max).any():
            bounds[name] = (low, high)
    return bounds


def load_model(name: str, version: str, onnx: Path, old: ServedModel | None) -> ServedModel:
    """Load a policy and check it: certificate, golden action, same spaces as before.

    Args:
        name: the model's name.
        version: its version; empty to take it from the file's content.
        onnx: the file.
        old: what is served under this name now.

    Raises:
        PolicyFileError: the file is no policy.
        ServeError: it is one that must not be served.
    """
    policy = OnnxPolicy(onnx)
    certificate = _read_certificate(onnx, policy)
    _check_action(policy)
    if certificate is not None and certificate.get("golden") is not None:
        _check_golden(policy, certificate["golden"])
    if old is not None:
        _check_spaces(policy, old.policy)
    return ServedModel(name, version or policy.sha256[:12], policy, certificate)


def _read_certificate(onnx: Path, policy: OnnxPolicy) -> Json | None:
    path = certificate_path(onnx)
    try:
        certificate: Json = json.loads(path.read_text(encoding="utf-8"))
        verdict, certified = certificate["verdict"], certificate["sha256"]["policy.onnx"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServeError(
            f"{path} cannot be read as a certificate ({error!r}); make it again with: "
            "trpo-deploy verify"
        ) from error
    if verdict != "pass":
        raise ServeError(f"{path} says {verdict!r}: the file is not the trained policy")
    if certified != policy.sha256:
        raise ServeError(
            f"{path} is of another file: SHA-256 {str(certified)[:12]}, {onnx.name} has "
            f"{policy.sha256[:12]}; make it again with: trpo-deploy verify"
        )
    return certificate


def _check_action(policy: OnnxPolicy) -> None:
    """Let the policy act once, so that a file which fails does so now."""
    one, _ = policy.spec.validate(policy.spec.sample_observation(np.random.default_rng(0)))
    three = {name: np.concatenate([array] * 3) for name, array in one.items()}
    actions = _act(policy, three)
    space = policy.spec.action_space
    expected = (3, *space.shape)
    if actions.shape != expected or actions.dtype != space.dtype:
        raise ServeError(
            f"{policy.path} gives actions of {actions.dtype} {actions.shape}, its spec says "
            f"{space.dtype} {expected}; export the policy again"
        )
    try:
        space.check_values(actions, "action")
    except ObservationError as error:
        raise ServeError(f"{policy.path} gives an illegal action: {error}") from error


def _act(policy: OnnxPolicy, inputs: dict[str, Array]) -> Array:
    """The actions for inputs; whatever the file does wrong is an error of the file."""
    try:
        return policy.step(inputs)[0]
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServeError(f"{policy.path} cannot be run ({reason})") from error


def _check_golden(policy: OnnxPolicy, golden: Any) -> None:
    """Compare with the action that was recorded at the export."""
    try:
        inputs, batched = policy.spec.validate(golden["observation"])
        actions = _act(policy, inputs)
        want = np.asarray(golden["action"], actions.dtype)
        want = want if batched else want[np.newaxis]
        same = want.shape == actions.shape and np.allclose(
            actions, want, rtol=_GOLDEN_TOLERANCE, atol=_GOLDEN_TOLERANCE
        )
    except (ObservationError, KeyError, TypeError, ValueError) as error:
        raise ServeError(f"the golden sample of {policy.path} cannot be run: {error}") from error
    if not same:
        raise ServeError(
            f"{policy.path} does not give its golden action: expected {want.tolist()}, "
            f"received {actions.tolist()}"
        )


def _check_spaces(new: OnnxPolicy, old: OnnxPolicy) -> None:
    """Clients of a model go on as they are, so it may not begin to take or give anything else."""
    for what in ("observation_space", "action_space"):
        before, after = getattr(old.spec, what), getattr(new.spec, what)
        if before.to_json() != after.to_json():
            raise ServeError(
                f"{new.path} has the {what} {after.describe()}, the model that it would replace "
                f"has {before.describe()}; serve it under another name"
            )
    if new.spec.states != old.spec.states:
        raise ServeError(
            f"{new.path} remembers {[s.input.name for s in new.spec.states]} in another way than "
            "the model that it would replace; serve it under another name"
        )
