"""An exported policy that is called as Stable-Baselines3's ``model.predict`` is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from trpo_deploy.errors import PolicyFileError
from trpo_deploy.spec import ACTION, METADATA_KEY, Array, PolicySpec


class OnnxPolicy:
    """A policy out of one ``policy.onnx``; safe to call from several threads.

    Args:
        path: the file.
        threads: threads that one call may use. A small network is fastest with one.
        providers: onnxruntime's execution providers, in order of preference.

    Raises:
        PolicyFileError: the file is missing, damaged, or was not exported by trpo-deploy.
    """

    spec: PolicySpec

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self.path = Path(path)
        self._session = _open_session(self.path, threads, providers)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise PolicyFileError(
                f"{path} has no {METADATA_KEY!r} metadata, so what it takes and gives is unknown; "
                "export the policy with: trpo-deploy export"
            )
        self.spec = PolicySpec.from_json(metadata[METADATA_KEY])
        self._check_graph()

    def predict(
        self,
        observation: object,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,  # noqa: ARG002 - SB3's signature; no state to reset
        deterministic: bool = True,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """The action for a raw observation, ready for ``env.step``.

        Args:
            observation: one observation or a batch, told apart by shape; a mapping for a
                space with keys. No normalising, one-hot or transposing beforehand.
            state: passed through; these policies have none.
            episode_start: not used; these policies have no state to reset.
            deterministic: must be true, since the file holds the mode only.

        Returns:
            The action, with a batch axis if the observation had one, and ``state``.

        Raises:
            ObservationError: wrong shape, dtype or key, or a number that is not finite.
            PolicyFileError: ``deterministic=False`` was asked for.
        """
        if not deterministic:
            raise PolicyFileError(
                f"{self.path} gives the deterministic action only; "
                "sample with the torch policy (--backend torch)"
            )
        inputs, batched = self.spec.validate(observation)
        action: Array = self._session.run([ACTION], inputs)[0]
        return (action if batched else action[0, ...]), state

    def _check_graph(self) -> None:
        """Refuse a graph that does not have what its spec names."""
        graph = {tensor.name for tensor in self._session.get_inputs()}
        named = {tensor.name for tensor in self.spec.inputs}
        if graph != named:
            raise PolicyFileError(
                f"{self.path} takes {sorted(graph)} but its spec names {sorted(named)}; "
                "export the policy again"
            )
        outputs = {tensor.name for tensor in self._session.get_outputs()}
        missing = {tensor.name for tensor in self.spec.outputs} - outputs
        if missing or ACTION not in outputs:
            raise PolicyFileError(
                f"{self.path} lacks the outputs {sorted(missing | {ACTION} - outputs)}; "
                "export the policy again"
            )


def _open_session(path: Path, threads: int, providers: Sequence[str]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: they are raised as well
    try:
        # Bytes, not a path: a file that points to external data cannot reach other files.
        return ort.InferenceSession(path.read_bytes(), options, providers=list(providers))
    except OSError as error:
        raise PolicyFileError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PolicyFileError(f"{path} is no ONNX file that can be run ({reason})") from error
