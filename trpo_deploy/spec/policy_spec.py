"""The contract of a ``policy.onnx``: what it takes, what it gives, and where it comes from.

A :class:`PolicySpec` travels as one JSON text in the metadata of the file, under the key
:data:`METADATA_KEY`. It needs numpy and nothing else, so every consumer of a policy, from the
exporter to the HTTP service, checks observations by the same rules.

Numbers keep their full precision; infinities are the strings ``"inf"`` and ``"-inf"``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from trpo_deploy.errors import ObservationError, PolicyFileError
from trpo_deploy.spec.spaces import Array, DictSpace, Json, Space, number_to_json, space_from_json

METADATA_KEY = "trpo_deploy"


FORMAT_VERSION = 1


OBS = "obs"
"""The input's name for an observation space without keys."""


ACTION = "action"
"""The name of the output that the environment takes."""


def state_name(observation: str) -> str:
    """Name of the ONNX input with the earlier frames of an observation."""
    return f"state_{observation}"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the ONNX file."""

    name: str
    dtype: str
    """A numpy dtype's name."""
    shape: tuple[int, ...]
    """Shape without the batch axis, which comes first and is free."""

    def to_json(self) -> Json:
        """The tensor as JSON values."""
        return {"name": self.name, "dtype": self.dtype, "shape": ["batch", *self.shape]}


@dataclass(frozen=True)
class NormalizerInfo:
    """What the graph does to raw observations first: ``clip((obs - mean) / std, -c, c)``."""

    clip_obs: float
    epsilon: float
    """Added to the variance under the root; already in the graph's ``std``."""
    keys: tuple[str, ...]
    """The inputs that are normalised."""
    smallest_std: float
    """Where it is tiny, float32 rounding of the observation is amplified by its inverse."""


@dataclass(frozen=True)
class StateSpec:
    """Frames that a policy is to remember: an input, and the output to feed it with next.

    A file is a pure function. Where the training stacked frames, the frames before the present
    one are an input of zeros at the start of an episode, and an output for the next step.
    """

    input: TensorSpec
    """Oldest frame first, along the axis on which the training stacked."""
    output: str
    """The output's name, of the input's dtype and shape."""

    def zeros(self, batch: int) -> Array:
        """The state at the start of an episode, ``(batch, *shape)``."""
        return np.zeros((batch, *self.input.shape), self.input.dtype)

    def to_json(self) -> Json:
        """The state as JSON values."""
        return {**self.input.to_json(), "output": self.output}


@dataclass(frozen=True, eq=False)
class GuardInfo:
    """What the graph does with NaN and infinities, where it was exported with a guard."""

    output: str
    """The name of a boolean output, ``(batch,)``: false where an observation is not finite."""
    action: Array
    """The action given for such an observation, of the action's shape and dtype."""

    def to_json(self) -> Json:
        """The guard as JSON values."""
        return {"output": self.output, "action": self.action.tolist()}


@dataclass(frozen=True)
class PolicySpec:
    """What a ``policy.onnx`` takes, gives, and comes from."""

    observation_space: Space | DictSpace
    action_space: Space
    outputs: tuple[TensorSpec, ...]
    algorithm: str
    """The class that trained the policy, such as ``TRPO``."""
    env_id: str | None
    """The environment's id, where it is known."""
    normalizer: NormalizerInfo | None
    preprocessing: tuple[str, ...]
    """What the graph does between the raw observation and the action, in words."""
    training: Mapping[str, float] = field(default_factory=dict)
    """``timesteps``, ``return_mean``, ``return_std`` and ``episodes``, where known."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The software that trained and exported the policy."""
    source_sha256: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the policy zip and of the statistics file."""
    states: tuple[StateSpec, ...] = ()
    """What the caller keeps between steps; empty unless the training stacked frames."""
    guard: GuardInfo | None = None
    """What happens to numbers that are not finite; without a guard that is undefined."""

    @cached_property
    def observation_spaces(self) -> Mapping[str, Space]:
        """The ONNX inputs' spaces by name."""
        if isinstance(self.observation_space, DictSpace):
            return self.observation_space.spaces
        return {OBS: self.observation_space}

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The ONNX inputs: the observation, then the states."""
        observation = (
            TensorSpec(name, str(space.dtype), space.shape)
            for name, space in self.observation_spaces.items()
        )
        return (*observation, *(state.input for state in self.states))

    def validate(self, observation: object) -> tuple[dict[str, Array], bool]:
        """Check an observation and turn it into the ONNX inputs.

        Args:
            observation: array or nested lists; for a space with keys, a mapping of them. One
                observation, or several along a first axis.

        Returns:
            The inputs by name, each with its batch axis, and whether a batch came.

        Raises:
            ObservationError: naming the key, what was expected and what came.
        """
        if isinstance(self.observation_space, DictSpace):
            return self._validate_keys(self.observation_space.spaces, observation)
        if isinstance(observation, Mapping):
            came = f"an object with keys {list(observation)}"
            raise ObservationError(OBS, "one array, no keys", came, kind="extra_key")
        array = self.observation_space.check(observation, OBS)
        if array.ndim > len(self.observation_space.shape):
            return {OBS: array}, True
        return {OBS: array[np.newaxis]}, False

    def _validate_keys(
        self, spaces: Mapping[str, Space], observation: object
    ) -> tuple[dict[str, Array], bool]:
        values = self._values_by_key(spaces, observation)
        arrays = {
            name: space.check(value, name)
            for (name, space), value in zip(spaces.items(), values, strict=True)
        }
        batched = {name: array.ndim > len(spaces[name].shape) for name, array in arrays.items()}
        sizes = {len(array) if batched[name] else None for name, array in arrays.items()}
        if len(sizes) > 1:
            shapes = {name: array.shape for name, array in arrays.items()}
            raise ObservationError(
                next(iter(spaces)), "one batch size in all keys", str(shapes), kind="batch_size"
            )
        if any(batched.values()):
            return arrays, True
        return {name: array[np.newaxis] for name, array in arrays.items()}, False

    @staticmethod
    def _values_by_key(spaces: Mapping[str, Space], observation: object) -> list[object]:
        keys = list(spaces)
        if not isinstance(observation, Mapping):
            received = type(observation).__name__
            raise ObservationError(
                keys[0], f"an object with keys {keys}", received, kind="missing_key"
            )
        for key in observation:
            if key not in spaces:
                raise ObservationError(
                    str(key), f"only the keys {keys}", "an unknown key", kind="extra_key"
                )
        for key in keys:
            if key not in observation:
                raise ObservationError(
                    key, f"all of the keys {keys}", "no such key", kind="missing_key"
                )
        return [observation[key] for key in keys]

    def sample_observation(self, rng: np.random.Generator) -> Array | dict[str, Array]:
        """A legal observation, without a batch axis."""
        if isinstance(self.observation_space, DictSpace):
            return {key: space.sample(rng) for key, space in self.observation_spaces.items()}
        return self.observation_space.sample(rng)

    def to_json(self) -> str:
        """The spec as one JSON text."""
        normalizer = self.normalizer
        return json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "observation_space": self.observation_space.to_json(),
                "action_space": self.action_space.to_json(),
                "inputs": [tensor.to_json() for tensor in self.inputs],
                "outputs": [tensor.to_json() for tensor in self.outputs],
                "algorithm": self.algorithm,
                "env_id": self.env_id,
                "normalizer": normalizer
                and {
                    "clip_obs": number_to_json(normalizer.clip_obs),
                    "epsilon": normalizer.epsilon,
                    "keys": list(normalizer.keys),
                    "smallest_std": normalizer.smallest_std,
                },
                "preprocessing": list(self.preprocessing),
                "training": dict(self.training),
                "versions": dict(self.versions),
                "source_sha256": dict(self.source_sha256),
                "states": [state.to_json() for state in self.states],
                "guard": self.guard and self.guard.to_json(),
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> PolicySpec:
        """Read what :meth:`to_json` wrote.

        Raises:
            PolicyFileError: the text is no spec, or one of a newer format.
        """
        try:
            value = json.loads(text)
            version = value["format_version"]
            if version != FORMAT_VERSION:
                raise PolicyFileError(
                    f"the spec has format version {version}, expected {FORMAT_VERSION}; "
                    "update trpo-deploy or export the policy again"
                )
            return cls._from_values(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyFileError(
                f"the spec in the metadata cannot be read ({error!r}); export the policy again"
            ) from error

    @classmethod
    def _from_values(cls, value: Json) -> PolicySpec:
        action_space = space_from_json(value["action_space"])
        if isinstance(action_space, DictSpace):
            raise ValueError("an action space has no keys")
        normalizer = value["normalizer"]
        return cls(
            observation_space=space_from_json(value["observation_space"]),
            action_space=action_space,
            outputs=tuple(_tensor_from_json(item) for item in value["outputs"]),
            algorithm=value["algorithm"],
            env_id=value["env_id"],
            normalizer=normalizer
            and NormalizerInfo(
                float(normalizer["clip_obs"]),
                normalizer["epsilon"],
                tuple(normalizer["keys"]),
                normalizer["smallest_std"],
            ),
            preprocessing=tuple(value["preprocessing"]),
            training=value["training"],
            versions=value["versions"],
            source_sha256=value["source_sha256"],
            states=tuple(
                StateSpec(_tensor_from_json(item), item["output"])
                for item in value.get("states", ())  # files of the first release have none
            ),
            guard=_guard_from_json(value.get("guard"), action_space),
        )


def _tensor_from_json(item: Json) -> TensorSpec:
    return TensorSpec(item["name"], item["dtype"], tuple(item["shape"][1:]))


def _guard_from_json(value: Json | None, action_space: Space) -> GuardInfo | None:
    if value is None:
        return None
    return GuardInfo(value["output"], np.asarray(value["action"], action_space.dtype))
