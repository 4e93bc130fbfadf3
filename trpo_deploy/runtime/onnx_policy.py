"""An exported policy with the interface of Stable-Baselines3's ``model.predict``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
import onnxruntime as ort

from trpo_deploy.errors import ObservationError, PolicyFileError, PolicyStoppedError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.runtime.bound_policy import BoundPolicy
from trpo_deploy.runtime.sampling import Draw, sampler
from trpo_deploy.spec.policy_spec import (
    ACTION,
    METADATA_KEY,
    OBS,
    FrameHistory,
    Inputs,
    PolicySpec,
    TensorSpec,
)
from trpo_deploy.spec.spaces import Array

_ACTION_ONLY = [ACTION]
_ONNX_TYPES = {"float32": "float", "float64": "double"}
"""ONNX's names of dtypes, where they differ from numpy's."""


class OnnxPolicy:
    """A policy from a ``policy.onnx``. It is thread-safe.

    It can be copied, pickled, and passed to other processes. A copy has the file's content, and
    continues the same sequence of random numbers.

    Args:
        path: The file, or a model folder with a ``policy.onnx``.
        threads: Number of threads that one call may use. A small network is fastest with one.
        providers: onnxruntime's execution providers, in order of preference.
        seed: Seed for sampling actions with ``deterministic=False``.

    Raises:
        PolicyFileError: The file is missing, damaged, or was not exported by trpo-deploy.
    """

    spec: PolicySpec
    """Inputs, outputs and origin of the policy."""
    sha256: str
    """Hex SHA-256 of the loaded file."""
    _run_options: Any

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        seed: int | None = None,
    ) -> None:
        path = Path(path)
        self.path = ModelDir(path).onnx if path.is_dir() else path
        self._content = _read(self.path)  # a pickle carries it
        self._threads, self._providers = threads, tuple(providers)
        self.sha256 = sha256(self._content).hexdigest()
        self._rng = np.random.default_rng(seed)
        self._open()
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise PolicyFileError(
                f"{self.path} has no {METADATA_KEY!r} metadata, so its inputs and outputs are "
                "unknown; export the policy with: trpo-deploy export"
            )
        self.spec = PolicySpec.from_json(metadata[METADATA_KEY])
        self._check_graph()
        self._renamed = self.spec.renamed_inputs
        self._sampler = sampler(self.spec)
        self._missing = {*self._sampler[0]} - {tensor.name for tensor in self.spec.outputs}

    def __getstate__(self) -> dict[str, Any]:
        """The file's bytes, the options and the random generator, for pickle and deepcopy."""
        with self._rng_lock:
            state = {**self.__dict__, "_rng": deepcopy(self._rng)}
        for name in ("_session", "_run_options", "_rng_lock", "_sampler"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file's bytes again."""
        self.__dict__.update(state)
        self._open()
        self._sampler = sampler(self.spec)

    @property
    def can_sample(self) -> bool:
        """Whether the file has the outputs that a drawn action needs."""
        return not self._missing

    def predict(
        self,
        observation: object,
        state: FrameHistory | None = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
        *,
        validate: bool = True,
    ) -> tuple[Array, FrameHistory | None]:
        """The action for a raw observation, ready for ``env.step``.

        Args:
            observation: One observation or a batch; the shape tells which. A mapping for a
                space with keys. Pass it raw: the file normalises, encodes and transposes. If
                the training stacked frames, pass the newest frame.
            state: The earlier frames that the last call returned; ``None`` starts an episode.
                Policies without a frame stack ignore it and return it unchanged.
            episode_start: Boolean ``(batch,)``: true for rows that start an episode. Their
                earlier frames become zeros.
            deterministic: Whether to return the distribution's mode; otherwise a sample.
            validate: Whether to check the observation. Without the check, some microseconds
                faster, arrays of the space's dtype and shape are required.

        Returns:
            The action, with a batch axis if the observation has one, and the earlier frames for
            the next step, which always have one.

        Raises:
            ObservationError: The shape, dtype or keys are wrong, a number is not finite, or
                ``state`` belongs to another batch.
            PolicyFileError: A sample is requested, but the file has only the mode.
        """
        if validate:
            inputs, batched = self.spec.validate(observation)
        else:
            inputs, batched = self._unchecked(observation)
        if deterministic and not self.spec.states:
            action = self.run(_ACTION_ONLY, inputs)[0]
        else:
            action, state = self.step(inputs, state, episode_start, deterministic)
        return (action if batched else action[0, ...]), state

    def step(
        self,
        inputs: Inputs,
        state: FrameHistory | None = None,
        episode_start: Array | None = None,
        deterministic: bool = True,
    ) -> tuple[Array, FrameHistory | None]:
        """Like :meth:`predict`, for inputs from :meth:`PolicySpec.validate`.

        Returns:
            Actions and the earlier frames for the next step, with a batch axis.

        Raises:
            ObservationError: ``state`` has another batch size, shape or dtype.
            PolicyFileError: A sample is requested, but the file has only the mode.
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

    def run(self, outputs: list[str], inputs: Inputs) -> list[Array]:
        """Compute some of the spec's outputs from all of its inputs, by key.

        Raises:
            PolicyStoppedError: Another thread called :meth:`stop`.
        """
        if self._renamed:
            inputs = {self._renamed.get(key, key): array for key, array in inputs.items()}
        options = self._run_options
        try:
            arrays: list[Array] = self._session.run(outputs, inputs, options)
        except Exception as error:  # onnxruntime's exceptions have no public base class
            if options.terminate:
                raise PolicyStoppedError(f"a run of {self.path} was stopped") from error
            raise
        return arrays

    def stop(self) -> None:
        """Stop the runs in progress, each at the end of its current operator.

        They raise :class:`PolicyStoppedError`. Later runs are not affected.
        """
        running = self._run_options
        self._run_options = ort.RunOptions()
        running.terminate = True

    def bind(self, outputs: Sequence[str]) -> BoundPolicy:
        """The policy for one observation at a time, with fixed arrays for inputs and outputs."""
        tensors = {tensor.name: tensor for tensor in self.spec.outputs}
        return BoundPolicy(self._session, self.spec.inputs, [tensors[name] for name in outputs])

    def _open(self) -> None:
        """Make the parts that cannot be pickled."""
        self._session = _open_session(self._content, self.path, self._threads, self._providers)
        self._run_options = ort.RunOptions()  # without it, each run makes its own: 10 % of its time
        self._rng_lock = Lock()  # numpy's generators are not thread-safe
        _OPEN.add(self)

    def _unchecked(self, observation: object) -> tuple[dict[str, Array], bool]:
        """The inputs of an observation, and whether it is a batch, without a check."""
        spaces = self.spec.observation_spaces
        arrays: Any = observation if isinstance(observation, Mapping) else {OBS: observation}
        batched = any(arrays[name].ndim > len(space.shape) for name, space in spaces.items())
        if batched:
            return dict(arrays), True
        return {name: array[np.newaxis] for name, array in arrays.items()}, False

    def _distribution(self) -> tuple[tuple[str, ...], Draw]:
        if self._missing:
            options = " ".join(f"--add-output {name}" for name in sorted(self._missing))
            raise PolicyFileError(
                f"{self.path} has the deterministic action only; to draw actions, export the "
                f"policy again with {options}"
            )
        return self._sampler

    def _frames(
        self,
        inputs: Inputs,
        state: FrameHistory | None,
        episode_start: Array | None,
    ) -> dict[str, Array]:
        """The inputs of earlier frames: zeros where an episode starts."""
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
                continues = ~np.asarray(episode_start, bool).reshape(
                    -1, *[1] * len(spec.input.shape)
                )
                frames[spec.input.name] = array * continues.astype(array.dtype)
        return frames

    def _check_graph(self) -> None:
        """Raise if the graph lacks an input or output of its spec."""
        inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        named = {tensor.name: tensor for tensor in self.spec.inputs}
        if inputs.keys() != named.keys():
            raise PolicyFileError(
                f"{self.path} has the inputs {sorted(inputs)} but its spec has {sorted(named)}; "
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


_OPEN: WeakSet[OnnxPolicy] = WeakSet()


def _renew_locks() -> None:
    for policy in _OPEN:
        policy._rng_lock = Lock()


if hasattr(os, "register_at_fork"):
    # A thread that holds a lock does not exist in the forked process, so nobody would release it.
    os.register_at_fork(after_in_child=_renew_locks)


def _check_input(path: Path, found: Any, tensor: TensorSpec) -> None:
    """Raise if an input's dtype or shape is not the spec's, or its batch size is fixed."""
    kind = f"tensor({_ONNX_TYPES.get(tensor.dtype, tensor.dtype)})"
    batch, *sizes = found.shape or [1]
    fits = len(sizes) == len(tensor.shape) and all(
        size == wanted or not isinstance(size, int)
        for size, wanted in zip(sizes, tensor.shape, strict=True)
    )
    if found.type != kind or not fits or isinstance(batch, int):
        raise PolicyFileError(
            f"{path} has the input {found.name!r} as {found.type} of shape {found.shape} but its "
            f"spec has {kind} of shape {['batch', *tensor.shape]}; export the policy again"
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
    options.log_severity_level = 3  # errors only; onnxruntime also raises them
    try:
        # Bytes, not a path: the model cannot load external data from other files.
        return ort.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PolicyFileError(f"{path} is not an ONNX file that can be run ({reason})") from error
