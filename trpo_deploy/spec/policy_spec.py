"""The contract of a ``policy.onnx``: its inputs, its outputs, and where it comes from.

A :class:`PolicySpec` is stored as JSON in the metadata of the file, under the key
:data:`METADATA_KEY`. It depends on numpy only, so the exporter, the runtime and the HTTP service
check observations by the same rules.

Numbers keep their full precision; infinities are the strings ``"inf"`` and ``"-inf"``.

Format versions:

=======  ==========================================================================
version  content
=======  ==========================================================================
1        trpo-deploy 0.1. Of the environment, ``env_id`` only.
2        Adds ``environment``: id, arguments, wrappers, frame stack. ``env_id`` repeats
         its id. Adds ``squashed``. Where known: ``observation_components``,
         ``action_components``, ``period``, ``safe_action``, and the normaliser's ``mean``
         and ``std``.
=======  ==========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from trpo_deploy.errors import ObservationError, PolicyFileError
from trpo_deploy.spec import json_checks
from trpo_deploy.spec.codec import (
    Array,
    Json,
    array_from_json,
    array_to_json,
    number_to_json,
)
from trpo_deploy.spec.components import Component, ControlSpec, control_from_json
from trpo_deploy.spec.environment import EnvironmentSpec, environment_from_json
from trpo_deploy.spec.spaces import DictSpace, Space, space_from_json

METADATA_KEY = "trpo_deploy"
"""Key of the spec in the ONNX file's metadata."""

FORMAT_VERSION = 2
"""Version that :meth:`PolicySpec.to_json` writes; see the module's docstring."""

OBS = "obs"
"""Name of the ONNX input for an observation space without keys."""

ACTION = "action"
"""Name of the ONNX output that ``env.step`` takes."""

_SQUASHED_IN_FORMAT_1 = "action: tanh of the Gaussian's mean, scaled to the action bounds"
"""The line of ``preprocessing`` by which files without ``squashed`` tell that they squash."""

Inputs: TypeAlias = Mapping[str, Array]
"""A batch of ONNX inputs by :attr:`TensorSpec.key`: raw observations, and earlier frames where
frames are stacked."""

FrameHistory: TypeAlias = tuple[Array, ...]
"""The earlier frames of an episode, an array ``(batch, *shape)`` for each :class:`StateSpec`."""


def state_name(observation: str) -> str:
    """Name of the ONNX input with the earlier frames of an observation."""
    return f"state_{observation}"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the ONNX file."""

    name: str
    dtype: str
    """Name of a numpy dtype."""
    shape: tuple[int, ...]
    """Shape without the batch axis. The batch axis is the first one and has any size."""
    other_key: str | None = None
    """Key of the observation if an input cannot have it as its name."""

    @property
    def key(self) -> str:
        """Key of the observation; in :data:`Inputs`, an input has this name."""
        return self.name if self.other_key is None else self.other_key

    def to_json(self) -> Json:
        """The tensor as JSON values."""
        value: Json = {"name": self.name, "dtype": self.dtype, "shape": ["batch", *self.shape]}
        return value if self.other_key is None else {**value, "key": self.other_key}


@dataclass(frozen=True, eq=False)
class NormalizerInfo:
    """The normaliser in the graph: ``clip((obs - mean) / std, -clip_obs, clip_obs)``."""

    clip_obs: float
    epsilon: float
    """Added to the variance before the square root. The graph's ``std`` includes it."""
    keys: tuple[str, ...]
    """Names of the normalised inputs."""
    smallest_std: float
    """Its inverse amplifies the float32 rounding of the observation."""
    mean: Mapping[str, Array] = field(default_factory=dict)
    """By key, float64 of the raw observation's shape. Not recorded: keys whose normaliser takes
    other numbers than the raw ones, such as a stack of frames, and large keys such as images."""
    std: Mapping[str, Array] = field(default_factory=dict)
    """As :attr:`mean`."""

    def to_json(self) -> Json:
        """The normaliser as JSON values."""
        value: Json = {
            "clip_obs": number_to_json(self.clip_obs),
            "epsilon": self.epsilon,
            "keys": list(self.keys),
            "smallest_std": self.smallest_std,
        }
        for name, arrays in (("mean", self.mean), ("std", self.std)):
            if arrays:
                value[name] = {key: array_to_json(array) for key, array in arrays.items()}
        return value


@dataclass(frozen=True)
class StateSpec:
    """The earlier frames of a stacked observation: an input, and the output that feeds it next.

    An ONNX file is a pure function. If the training stacked frames, the file takes the earlier
    frames as an input, zeros at the start of an episode, and returns the ones for the next step.
    """

    input: TensorSpec
    """Oldest frame first, along the axis of the training's stack."""
    output: str
    """Name of the output; it has the input's dtype and shape."""

    def zeros(self, batch: int) -> Array:
        """The state at the start of an episode, ``(batch, *shape)``."""
        return np.zeros((batch, *self.input.shape), self.input.dtype)

    def to_json(self) -> Json:
        """The state as JSON values."""
        return {**self.input.to_json(), "output": self.output}


@dataclass(frozen=True, eq=False)
class GuardInfo:
    """How a file that was exported with a guard answers NaN and infinities."""

    output: str
    """Name of a boolean output ``(batch,)``: false where the observation is not finite."""
    action: Array
    """The action for such an observation, of the action's shape and dtype."""

    def to_json(self) -> Json:
        """The guard as JSON values."""
        return {"output": self.output, "action": self.action.tolist()}


@dataclass(frozen=True)
class PolicySpec:
    """Inputs, outputs and origin of a ``policy.onnx``."""

    observation_space: Space | DictSpace
    action_space: Space
    outputs: tuple[TensorSpec, ...]
    algorithm: str
    """The class that trained the policy, such as ``TRPO``."""
    environment: EnvironmentSpec | None
    """The environment of the training, if known."""
    normalizer: NormalizerInfo | None
    preprocessing: tuple[str, ...]
    """The graph's steps from the raw observation to the action, a line of text each."""
    training: Mapping[str, float] = field(default_factory=dict)
    """``timesteps``, ``return_mean``, ``return_std`` and ``episodes``, if known."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the software that trained and exported the policy."""
    source_sha256: Mapping[str, str] = field(default_factory=dict)
    """Hex SHA-256 of the policy zip and the statistics file, by file name."""
    states: tuple[StateSpec, ...] = ()
    """The earlier frames that the caller keeps between steps; empty without a frame stack."""
    guard: GuardInfo | None = None
    """The answer to NaN and infinities; without a guard it is undefined."""
    squashed: bool = False
    """Whether a Box action is the tanh of a Gaussian, scaled to the bounds, instead of clipped."""
    observation_components: Mapping[str, tuple[Component, ...]] = field(default_factory=dict)
    """Names and units by observation key (:data:`OBS` for a space without keys), in the order of
    that key's array, last axis fastest. The names of a key that is missing are unknown."""
    action_components: tuple[Component, ...] = ()
    """Names and units of the action's numbers; of a Discrete action, of its values. Empty if
    unknown."""
    period: float | None = None
    """Seconds between two actions, if known."""
    safe_action: Array | None = None
    """The action when nothing is known, of the action's dtype and shape; ``None`` if there is
    none. A guard gives this one."""

    @property
    def control(self) -> ControlSpec:
        """Names, units, period and safe action together."""
        return ControlSpec(
            self.observation_components, self.action_components, self.period, self.safe_action
        )

    @property
    def env_id(self) -> str | None:
        """The Gymnasium id of the environment, if known."""
        return None if self.environment is None else self.environment.id

    @cached_property
    def observation_spaces(self) -> Mapping[str, Space]:
        """The spaces of the observation's ONNX inputs, by key."""
        return spaces_by_key(self.observation_space)

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """All ONNX inputs: the observation's, then the earlier frames."""
        observation = (
            TensorSpec(name, str(space.dtype), space.shape, None if name == key else key)
            for key, space in self.observation_spaces.items()
            for name in [self._input_name(key)]
        )
        return (*observation, *(state.input for state in self.states))

    @property
    def renamed_inputs(self) -> dict[str, str]:
        """Names of the inputs that cannot have the name of their key, by key."""
        return {tensor.key: tensor.name for tensor in self.inputs if tensor.key != tensor.name}

    def _input_name(self, key: str) -> str:
        """The key; with a prefix if the graph has another tensor of this name.

        All names of a graph are different. Those of its inner tensors begin with a slash. The
        output keeps its name, which clients rely on; another key would need another training.
        """
        taken = {*self.observation_spaces} - {key} | {tensor.name for tensor in self.outputs}
        name = key
        while name in taken or not name or name.startswith("/"):
            name = f"{OBS}_{name}"
        return name

    def validate(self, observation: object) -> tuple[dict[str, Array], bool]:
        """Check an observation and convert it to the ONNX inputs.

        Args:
            observation: One observation, or a batch along the first axis, as an array or nested
                lists. For a space with keys: a mapping of these.

        Returns:
            The inputs by key, each with a batch axis, and whether ``observation`` was a batch.

        Raises:
            ObservationError: The observation does not fit; the error names the key, what was
                expected and what was received.
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
        """Draw a legal observation, without a batch axis."""
        if isinstance(self.observation_space, DictSpace):
            return {key: space.sample(rng) for key, space in self.observation_spaces.items()}
        return self.observation_space.sample(rng)

    def to_json(self) -> str:
        """The spec as JSON text of format :data:`FORMAT_VERSION`."""
        return json.dumps(self._to_values(), allow_nan=False)

    def policy_json(self, name: str, files: Mapping[str, str], target: str = "onnx") -> str:
        """The text of ``policy.json``, for programs that cannot read the metadata of an ONNX file.

        Args:
            name: Name of the policy.
            files: Hex SHA-256 of the policy's files, by file name.
            target: Target of the export that the files are of.
        """
        value = {
            "name": name,
            "target": target,
            "files": dict(files),
            "spec": self._to_values(),
        }
        return json.dumps(value, allow_nan=False, indent=1) + "\n"

    def _to_values(self) -> Json:
        return {
            "format_version": FORMAT_VERSION,
            "observation_space": self.observation_space.to_json(),
            "action_space": self.action_space.to_json(),
            "inputs": [tensor.to_json() for tensor in self.inputs],
            "outputs": [tensor.to_json() for tensor in self.outputs],
            "algorithm": self.algorithm,
            "env_id": self.env_id,
            "environment": self.environment and self.environment.to_json(),
            "normalizer": self.normalizer and self.normalizer.to_json(),
            "preprocessing": list(self.preprocessing),
            "training": dict(self.training),
            "versions": dict(self.versions),
            "source_sha256": dict(self.source_sha256),
            "states": [state.to_json() for state in self.states],
            "guard": self.guard and self.guard.to_json(),
            "squashed": self.squashed,
            **self.control.to_json(),
        }

    @classmethod
    def from_json(cls, text: str) -> PolicySpec:
        """Read a spec of format 1 or 2.

        Raises:
            PolicyFileError: The text is not a spec, or its format is a newer one.
        """
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
            version = value["format_version"]
            if version not in (1, FORMAT_VERSION):
                raise PolicyFileError(
                    f"the spec has format version {version}, expected 1 or {FORMAT_VERSION}; "
                    "update trpo-deploy or export the policy again"
                )
            return cls._from_values(value)
        except PolicyFileError:
            raise
        except Exception as error:  # anyone may have written the text
            raise PolicyFileError(
                f"the spec in the metadata cannot be read ({error!r}); export the policy again"
            ) from error

    @classmethod
    def _from_values(cls, value: Json) -> PolicySpec:
        action_space = space_from_json(value["action_space"])
        if isinstance(action_space, DictSpace):
            raise ValueError("the action space is a Dict")
        observation_space = space_from_json(value["observation_space"])
        spaces = spaces_by_key(observation_space)
        guard = _guard_from_json(value.get("guard"), action_space)
        control = control_from_json(value, spaces, action_space)
        if control.safe_action is None and guard is not None:  # an older file
            control = replace(control, safe_action=guard.action)
        return cls(
            observation_space=observation_space,
            action_space=action_space,
            outputs=tuple(_tensor_from_json(item) for item in value["outputs"]),
            algorithm=json_checks.text(value["algorithm"], "algorithm"),
            environment=_environment_from_json(value),
            normalizer=_normalizer_from_json(value["normalizer"], spaces),
            preprocessing=_texts_from_json(value["preprocessing"], "a line of preprocessing"),
            training={
                _name(key): json_checks.number(item, key) for key, item in value["training"].items()
            },
            versions=_names_from_json(value["versions"]),
            source_sha256=_names_from_json(value["source_sha256"]),
            states=tuple(
                StateSpec(_tensor_from_json(item), _name(item["output"]))
                for item in value.get("states", ())  # the first files of format 1 lack it
            ),
            guard=guard,
            squashed=bool(value.get("squashed", _SQUASHED_IN_FORMAT_1 in value["preprocessing"])),
            observation_components=control.observation_components,
            action_components=control.action_components,
            period=control.period,
            safe_action=control.safe_action,
        )


def spaces_by_key(space: Space | DictSpace) -> Mapping[str, Space]:
    """The arrays of an observation space; the key is :data:`OBS` for a space without keys."""
    return space.spaces if isinstance(space, DictSpace) else {OBS: space}


def _normalizer_from_json(value: Json | None, spaces: Mapping[str, Space]) -> NormalizerInfo | None:
    if value is None:
        return None
    mean, std = (
        {
            key: array_from_json(numbers, spaces[key].shape, np.dtype(np.float64))
            for key, numbers in value.get(name, {}).items()
        }
        for name in ("mean", "std")
    )
    return NormalizerInfo(
        float(value["clip_obs"]),
        json_checks.number(value["epsilon"], "epsilon"),
        _texts_from_json(value["keys"], "a key of the normalizer"),
        json_checks.number(value["smallest_std"], "smallest_std"),
        mean,
        std,
    )


def _tensor_from_json(item: Json) -> TensorSpec:
    name = _name(item["name"])
    dtype = json_checks.dtype(item["dtype"], f"dtype of {name}")
    return TensorSpec(name, str(dtype), json_checks.shape(item["shape"][1:], f"shape of {name}"))


def _name(value: object) -> str:
    return json_checks.text(value, "a name")


def _texts_from_json(value: list[str], what: str) -> tuple[str, ...]:
    return tuple(json_checks.text(item, what) for item in value)


def _names_from_json(value: Mapping[str, str]) -> dict[str, str]:
    return {_name(key): json_checks.text(item, key) for key, item in value.items()}


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _environment_from_json(value: Json) -> EnvironmentSpec | None:
    """The spec's environment; in format 1, its id only."""
    if value["format_version"] == 1:
        env_id = value["env_id"]
        return None if env_id is None else EnvironmentSpec(str(env_id), unrecorded=None)
    environment = value["environment"]
    return None if environment is None else environment_from_json(environment)


def _guard_from_json(value: Json | None, action_space: Space) -> GuardInfo | None:
    if value is None:
        return None
    action = np.asarray(value["action"], action_space.dtype)
    return GuardInfo(_name(value["output"]), action.reshape(action_space.shape))
