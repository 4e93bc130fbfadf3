"""An exported policy that is called as Stable-Baselines3's ``model.predict`` is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime as ort

from trpo_deploy.errors import ObservationError, PolicyFileError
from trpo_deploy.runtime.sampling import Draw, sampler
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, OBS, PolicySpec, TensorSpec
from trpo_deploy.spec.spaces import Array

_ACTION_ONLY = [ACTION]
_ONNX_TYPES = {"float32": "float", "float64": "double"}
"""Where ONNX's names differ from numpy's."""


class OnnxPolicy:
    """A policy out of one ``policy.onnx``; safe to call from several threads.

    Args:
        path: the file.
        threads: threads that one call may use. A small network is fastest with one.
        providers: onnxruntime's execution providers, in order of preference.
        seed: of the generator that draws actions with ``deterministic=False``.

    Raises:
        PolicyFileError: the file is missing, damaged, or was not exported by trpo-deploy.
    """

    spec: PolicySpec
    """What the policy takes and gives, and where it comes from."""
    sha256: str
    """Hex SHA-256 of the file that was loaded."""

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        seed: int | None = None,
    ) -> None:
        self.path = Path(path)
        content = _read(self.path)
        self.sha256 = sha256(content).hexdigest()
        self._session = _open_session(content, self.path, threads, providers)
        self._run_options = ort.RunOptions()  # else each run makes its own, a tenth of its time
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise PolicyFileError(
                f"{path} has no {METADATA_KEY!r} metadata, so what it takes and gives is unknown; "
                "export the policy with: trpo-deploy export"
            )
        self.spec = PolicySpec.from_json(metadata[METADATA_KEY])
        self._check_graph()
        self._sampler = sampler(self.spec)
        self._rng = np.random.default_rng(seed)
        self._rng_lock = Lock()  # numpy's generators are for one thread at a time

    @property
    def can_sample(self) -> bool:
        """Whether the file gives the distribution, so that actions can be drawn from it."""
        return self._sampler is not None

    def predict(
        self,
        observation: object,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
        *,
        validate: bool = True,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """The action for a raw observation, ready for ``env.step``.

        Args:
            observation: one observation or a batch, told apart by shape; a mapping for a
                space with keys. No normalising, one-hot or transposing beforehand. Where the
                training stacked frames: the newest frame.
            state: what the last call returned; ``None`` begins an episode. Policies without
                frame stacks have none and return it as it came.
            episode_start: ``(batch,)``: true for rows that begin an episode, whose state is
                forgotten.
            deterministic: the distribution's mode; else an action drawn from it.
            validate: false for a loop whose observations are known to be arrays of the
                space's dtype and shape, which saves some microseconds.

        Returns:
            The action, with a batch axis if the observation had one, and the next state, which
            always has one.

        Raises:
            ObservationError: wrong shape, dtype or key, a number that is not finite, or a state
                of another batch.
            PolicyFileError: an action is to be drawn, and the file gives only the mode.
        """
        if validate:
            inputs, batched = self.spec.validate(observation)
        else:
            inputs, batched = self._trust(observation)
        if deterministic and not self.spec.states:
            action = self.run(_ACTION_ONLY, inputs)[0]
        else:
            action, state = self.step(inputs, state, episode_start, deterministic)
        return (action if batched else action[0, ...]), state

    def step(
        self,
        inputs: Mapping[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """As :meth:`predict`, for inputs as :meth:`PolicySpec.validate` gives them.

        Returns:
            Actions and next state, each with its batch axis.

        Raises:
            ObservationError: the state is of another batch, shape or dtype.
            PolicyFileError: an action is to be drawn, and the file gives only the mode.
        """
        names = _ACTION_ONLY if deterministic else list(self._distribution()[0])
        if not self.spec.states:
            outputs = self.run(names, inputs)
        else:
            frames = self._frames(inputs, state, episode_start)
            following = [spec.output for spec in self.spec.states]
            outputs = self.run(names + following, {**inputs, **frames})
            outputs, state = outputs[: len(names)], tuple(outputs[len(names) :])
        if deterministic:
            return outputs[0], state
        with self._rng_lock:
            return self._distribution()[1](outputs, self._rng), state

    def run(self, outputs: list[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Any of the outputs that the spec names, for all of the inputs that it names."""
        arrays: list[Array] = self._session.run(outputs, inputs, self._run_options)
        return arrays

    def _trust(self, observation: object) -> tuple[dict[str, Array], bool]:
        """The inputs of an observation that needs no check."""
        spaces = self.spec.observation_spaces
        arrays: Any = observation if isinstance(observation, Mapping) else {OBS: observation}
        batched = any(arrays[name].ndim > len(space.shape) for name, space in spaces.items())
        if batched:
            return dict(arrays), True
        return {name: array[np.newaxis] for name, array in arrays.items()}, False

    def _distribution(self) -> tuple[tuple[str, ...], Draw]:
        if self._sampler is None:
            raise PolicyFileError(
                f"{self.path} gives the deterministic action only; export the policy again with "
                "its distribution (--add-output mean --add-output std, or --add-output logits)"
            )
        return self._sampler

    def _frames(
        self,
        inputs: Mapping[str, Array],
        state: tuple[Array, ...] | None,
        episode_start: Array | None,
    ) -> dict[str, Array]:
        """The state inputs: zeros where an episode begins."""
        batch = len(next(iter(inputs.values())))
        if state is None:
            return {spec.input.name: spec.zeros(batch) for spec in self.spec.states}
        if len(state) != len(self.spec.states):
            expected_arrays = f"{len(self.spec.states)} arrays"
            raise ObservationError("state", expected_arrays, f"{len(state)} arrays", kind="shape")
        frames = {}
        for spec, array in zip(self.spec.states, state, strict=True):
            expected = (batch, *spec.input.shape)
            if array.shape != expected or array.dtype != spec.input.dtype:
                raise ObservationError(
                    spec.input.name,
                    f"{spec.input.dtype} of shape {expected}",
                    f"{array.dtype} of shape {array.shape}",
                    kind="shape",
                )
            frames[spec.input.name] = array
            if episode_start is not None:
                goes_on = ~np.asarray(episode_start, bool).reshape(-1, *[1] * len(spec.input.shape))
                frames[spec.input.name] = array * goes_on.astype(array.dtype)
        return frames

    def _check_graph(self) -> None:
        """Refuse a graph that does not have what its spec names."""
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        named = {tensor.name: tensor for tensor in self.spec.inputs}
        if inputs.keys() != named.keys():
            raise PolicyFileError(
                f"{self.path} takes {sorted(inputs)} but its spec names {sorted(named)}; "
                "export the policy again"
            )
        for name, tensor in named.items():
            _check_input(self.path, inputs[name], tensor)
        outputs = {tensor.name for tensor in self._session.get_outputs()}
        missing = {ACTION, *(tensor.name for tensor in self.spec.outputs)} - outputs
        if missing:
            raise PolicyFileError(
                f"{self.path} lacks the outputs {sorted(missing)}; export the policy again"
            )


def _check_input(path: Path, found: Any, tensor: TensorSpec) -> None:
    """Refuse an input of another dtype or shape than the spec's, or a batch axis that is fixed."""
    kind = f"tensor({_ONNX_TYPES.get(tensor.dtype, tensor.dtype)})"
    batch, *sizes = found.shape or [1]
    fits = len(sizes) == len(tensor.shape) and all(
        size == wanted or not isinstance(size, int)
        for size, wanted in zip(sizes, tensor.shape, strict=True)
    )
    if found.type != kind or not fits or isinstance(batch, int):
        raise PolicyFileError(
            f"{path} takes {found.name!r} as {found.type} of shape {found.shape} but its spec "
            f"says {kind} of shape {['batch', *tensor.shape]}; export the policy again"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyFileError(f"cannot read {path}: {error.strerror}") from error


def _open_session(content: bytes, path: Path, threads: int, providers: Sequence[str]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: they are raised as well
    try:
        # Bytes, not a path: a file that points to external data cannot reach other files.
        return ort.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PolicyFileError(f"{path} is no ONNX file that can be run ({reason})") from error
