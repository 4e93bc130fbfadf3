"""One loaded version of a model, and the checks of its observations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import orjson

from trpo_deploy.errors import ObservationError
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import Array, BoxSpace, Json, dtype_limits


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A policy with the name and version under which it is served."""

    name: str
    version: str
    policy: OnnxPolicy
    certificate: Json | None
    """The certificate next to the file, if there is one."""
    json_tail: bytes = field(init=False)
    """End of every JSON reply, after the action. Encoded once."""
    v2_head: bytes = field(init=False)
    """Start of every reply under ``/v2``. Encoded once."""
    bounds: dict[str, tuple[Array, Array]] = field(init=False)
    """Lower and upper bounds of the inputs with finite bounds, in the input's dtype."""

    def __post_init__(self) -> None:
        names = orjson.dumps({"model": self.name, "version": self.version})
        object.__setattr__(self, "json_tail", b"," + names[1:])
        v2_names = orjson.dumps({"model_name": self.name, "model_version": self.version})
        object.__setattr__(self, "v2_head", v2_names[:-1])
        object.__setattr__(self, "bounds", _finite_bounds(self.policy))

    def validate(self, observation: object, settings: Settings) -> tuple[dict[str, Array], bool]:
        """Check an observation against the policy's spaces and the service's limits.

        Returns:
            The ONNX inputs, each with a batch axis, and whether the observation was a batch.

        Raises:
            RequestError: The policy does not accept the observation, or the batch is too large.
        """
        try:
            inputs, batched = self.policy.spec.validate(observation)
            size = _batch_size(inputs)
            if self.bounds and settings.out_of_bounds != "accept":
                self._apply_bounds(inputs, clip=settings.out_of_bounds == "clip")
        except ObservationError as error:
            raise RequestError.from_observation_error(error) from error
        if size > settings.max_batch:
            raise RequestError(
                413,
                "batch_too_large",
                f"{size} observations in one request, at most {settings.max_batch} are allowed",
                field="observation",
                expected=f"at most {settings.max_batch} observations",
                received=str(size),
            )
        return inputs, batched

    def _apply_bounds(self, inputs: dict[str, Array], *, clip: bool) -> None:
        for name, (low, high) in self.bounds.items():
            array = inputs[name]
            if clip:
                inputs[name] = np.minimum(np.maximum(array, low), high)
                continue
            outside = (array < low) | (array > high)
            if np.count_nonzero(outside):
                space = self.policy.spec.observation_spaces[name]
                raise ObservationError(
                    name,
                    f"numbers within the bounds of {space.describe()} (the service can clip or "
                    "accept others: --out-of-bounds)",
                    str(array[outside][0]),
                    kind="out_of_range",
                )


def _batch_size(inputs: dict[str, Array]) -> int:
    """Number of observations.

    Raises:
        ObservationError: There is none; a client that sends none has probably lost its own.
    """
    name, array = next(iter(inputs.items()))
    if not len(array):
        raise ObservationError(name, "at least one observation", "an empty batch", kind="shape")
    return len(array)


def _finite_bounds(policy: OnnxPolicy) -> dict[str, tuple[Array, Array]]:
    bounds = {}
    for name, space in policy.spec.observation_spaces.items():
        if not isinstance(space, BoxSpace):
            continue  # spec.validate checks the bounds of the other spaces
        with np.errstate(over="ignore"):  # a float64 bound beyond float32 becomes infinite
            low, high = space.low.astype(space.dtype), space.high.astype(space.dtype)
        smallest, largest = dtype_limits(space.dtype)
        if (low > smallest).any() or (high < largest).any():
            bounds[name] = (low, high)
    return bounds
