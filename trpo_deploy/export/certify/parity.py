"""Teacher-forced parity: an ONNX file and Stable-Baselines3 on the same raw observations.

What counts as equal is measured on the way: SB3 does not agree with itself to the last bit,
and that disagreement sets the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from trpo_deploy.export.certify.engines import Engine, Outputs
from trpo_deploy.export.certify.observations import concatenate, is_finite, size_of, take
from trpo_deploy.export.graph.heads import PARAMETERS, number_sizes
from trpo_deploy.export.policy.network import Activation, ActorNetwork, Linear
from trpo_deploy.export.profiles import OBS_OK
from trpo_deploy.sb3.extra_outputs import extra_outputs
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.weight_noise import weights_one_ulp_off
from trpo_deploy.spec.policy_spec import ACTION, Inputs, TensorSpec
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
)

# Rounding differs between engines by a few of the steps that separate SB3 from itself: over
# the five agents of 2021 the largest ratio seen was 3.0.
SAFETY = 8.0
# Draws of one-ulp noise; their maximum measures how a row amplifies rounding.
_ULP_DRAWS = 8
_REFERENCE_ROWS = 256
_NOISE_ROWS = 128
"""Rows that SB3 is given one by one, to see how far it is from itself."""
_SLOW_ELEMENTS = 2**17
"""Of inputs, that a slow engine is given of each set."""
HOW = (
    "distribution parameters, actions and further outputs against SB3 on the same raw "
    "observations, in batches of 1, 7 and 256; each row's tolerance is "
    f"{SAFETY:g} times the larger of SB3's difference between batch 1 and 256 and its "
    "response to one-ulp noise on the observation and on the weights, and at least one unit in "
    "the last place for each layer"
)


@dataclass(frozen=True)
class Check:
    """One thing that was held against the trained policy."""

    name: str
    passed: bool
    how: str
    """What was compared and where its tolerance comes from."""
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Values:
    """What SB3 makes of the rows of a set, and how far it is from itself."""

    expected: Array
    """``(rows, n)``."""
    tolerance: Array
    """``(rows,)``."""
    batch_noise: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """A set of observations with what SB3 makes of them."""

    name: str
    observations: Inputs
    values: Mapping[str, Values]
    """By the output's name; :data:`PARAMETERS` among them."""
    actions: Array
    undefined_rows: int
    actor: ActorNetwork

    @classmethod
    def make(
        cls,
        name: str,
        observations: Inputs,
        outputs: tuple[TensorSpec, ...],
        actor: ActorNetwork,
        reference: SB3Policy,
        rng: np.random.Generator,
    ) -> Comparison:
        """Run SB3 on the observations.

        Args:
            name: of the set.
            observations: raw; rows for which SB3's result is not finite are left out.
            outputs: what the file gives.
            actor: the policy as the exporter understood it.
            reference: the policy as SB3 runs it.
            rng: for noise.
        """
        guarded = any(tensor.name == OBS_OK for tensor in outputs)
        names = _continuous(outputs, actor)
        with np.errstate(all="ignore"):
            expected = _values_or_nan(observations, names, reference)
            # Frames to be remembered may be infinite; all else has to be a number.
            states = {f"next_{state.input.name}" for state in actor.states}
            defined = is_finite({n: each for n, each in expected.items() if n not in states})
            if guarded:
                defined &= is_finite(_single(observations))
            observations = take(observations, defined)
            expected = {each: array[defined] for each, array in expected.items()}
            noise = _batch_noise(observations, expected, actor, reference)
            response = _response_to_noise(observations, expected, reference, rng)
            actions = reference.actions(observations)
        return cls(
            name,
            observations,
            {
                each: Values(
                    expected[each],
                    SAFETY * np.maximum(response[each], noise[each]),
                    noise[each],
                )
                for each in expected
            },
            actions,
            int((~defined).sum()),
            actor,
        )

    def check(self, engine: Engine) -> Check:
        """Hold a file in an engine against SB3."""
        rows = self._rows(engine)
        found = run_in_batches(engine, take(self.observations, rows))
        measured: dict[str, Any] = {
            "rows": len(rows),
            "rows_undefined_in_sb3": self.undefined_rows,
            # Such as bounds of 3e38, next to which SB3 itself is undefined.
            "rows_without_a_measure": int(np.isinf(self.values[PARAMETERS].tolerance[rows]).sum()),
        }
        wrong = np.zeros(len(rows), bool)
        for name, values in self.values.items():
            error = _distance(found[name].reshape(len(rows), -1), values.expected[rows])
            # NaN is never close.
            wrong |= ~(error.max(axis=1, initial=0) <= values.tolerance[rows])
            error = error[np.isfinite(values.tolerance[rows])]
            label = self.actor.parameter_name if name == PARAMETERS else name
            measured[f"{label}_error_max"] = number(error.max(initial=0))
            if name == ACTION:
                measured["action_error_p99"] = number(np.quantile(error, 0.99) if error.size else 0)
        measured["sb3_batch_noise"] = self.values[PARAMETERS].batch_noise
        measured["rows_beyond_tolerance"] = int(wrong.sum())
        mismatched = self._compare_numbers(rows, found[ACTION], measured)
        return Check(
            f"parity, {engine.name}, {self.name}", not (wrong.any() or mismatched), HOW, measured
        )

    def _rows(self, engine: Engine) -> Array:
        rows = np.arange(len(self.actions))
        if not engine.takes_infinities:
            rows = rows[is_finite(_single(self.observations))]
        if not engine.is_slow or not len(rows):
            return rows
        elements = sum(array[0].size for array in self.observations.values())
        most = max(8, min(_REFERENCE_ROWS, _SLOW_ELEMENTS // elements))
        chosen = np.linspace(0, len(rows) - 1, min(most, len(rows)))
        return np.asarray(rows[chosen.astype(np.int64)])

    def _compare_numbers(self, rows: Array, found: Array, measured: dict[str, Any]) -> bool:
        """Whether a number of a discrete action is another than SB3's, beyond ties."""
        actor = self.actor
        if isinstance(actor.action_space, BoxSpace):
            return False
        values = self.values[PARAMETERS]
        margin = _margins(values.expected[rows], actor)
        mismatch = (found != self.actions[rows]).reshape(margin.shape)
        # Where two logits lie closer than rounding, either action is the policy's.
        wrong = mismatch & (margin > 2 * values.tolerance[rows, None])
        measured["action_mismatches"] = int(mismatch.any(axis=1).sum())
        measured["mismatches_not_explained_by_a_tie"] = int(wrong.any(axis=1).sum())
        measured["smallest_margin"] = number(margin.min(initial=np.inf))
        return bool(wrong.any())


def _distance(found: Array, expected: Array) -> Array:
    with np.errstate(invalid="ignore"):
        # Frames to be remembered may be infinite, and are the same then.
        return np.where(found == expected, 0.0, np.abs(found - expected))


def run_in_batches(engine: Engine, observations: Inputs) -> Outputs:
    """The same rows in batches of 1, 7 and 256, so that all three are exercised."""
    rows = size_of(observations)
    cuts = sorted({min(cut, rows) for cut in (0, 1, 8, *range(8 + 256, rows, 256), rows)})
    return concatenate(
        [engine.run(take(observations, slice(start, end))) for start, end in pairwise(cuts)]
    )


def reference_values(
    reference: SB3Policy, observations: Inputs, names: tuple[str, ...]
) -> dict[str, Array]:
    """What SB3 makes of a batch, each of shape ``(batch, n)``."""
    states = [name for name in names if name.startswith("next_state_")]
    found = {PARAMETERS: reference.parameters(observations)}
    if ACTION in names:
        found[ACTION] = reference.actions(observations)
    if states:
        following = reference.next_states(observations)
        found |= {f"next_state_{name}": array for name, array in following.items()}
    if set(names) - {PARAMETERS, ACTION, *states}:
        asked = extra_outputs(reference, observations)
        found |= {name: asked[name] for name in names if name in asked}
    return {name: array.reshape(len(array), -1) for name, array in found.items()}


def _continuous(outputs: tuple[TensorSpec, ...], actor: ActorNetwork) -> tuple[str, ...]:
    """The outputs that are compared as real numbers."""
    discrete = {OBS_OK} if actor.is_gaussian else {OBS_OK, ACTION}
    return tuple(tensor.name for tensor in outputs if tensor.name not in discrete)


def _single(observations: Inputs) -> Inputs:
    """In float32, as a file is given them."""
    with np.errstate(over="ignore"):
        return {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array
            for name, array in observations.items()
        }


def _rounding(name: str, actor: ActorNetwork) -> float:
    """The least error that rounding in each layer brings to an output, even where terms cancel.

    Hidden units are of order one, and so is what engines' tanh, exp and erf are off by a unit in
    the last place of; each layer adds its part, and the last one's weights bring it to the output.
    """
    layers = actor.critic.layers if name == "value" else (*actor.layers, actor.head)
    last = layers[-1]
    assert isinstance(last, Linear)
    size = float(np.linalg.norm(last.weight, axis=1).max(initial=0))
    space = actor.action_space
    if name == ACTION and actor.squash and isinstance(space, BoxSpace):
        size *= float(0.5 * (space.high - space.low).max())
    if name in ("log_prob", "margin"):
        size = max(size, 1.0)  # probabilities are of order one
    activations = sum(isinstance(layer, Activation) for layer in layers)
    return float(np.finfo(np.float32).eps) * size * (1 + activations)


def _batch_noise(
    observations: Inputs,
    expected: Mapping[str, Array],
    actor: ActorNetwork,
    reference: SB3Policy,
) -> dict[str, float]:
    """SB3 against itself: the largest difference between a row alone and in a batch."""
    size = size_of(observations)
    rows = np.unique(np.linspace(0, size - 1, min(size, _NOISE_ROWS)).astype(np.int64))
    alone = [
        reference_values(reference, take(observations, slice(row, row + 1)), tuple(expected))
        for row in rows
    ]
    noise = {}
    for name, array in expected.items():
        each = np.concatenate([values[name] for values in alone]) if alone else array[rows]
        difference = _distance(each, array[rows]).max(initial=0)
        # At least what rounding comes to, for policies on which SB3 agrees with itself by luck.
        largest = np.abs(array).max(initial=1e-3, where=np.isfinite(array))
        spacing = np.spacing(np.float32(largest))
        noise[name] = float(max(difference, spacing, _rounding(name, actor)))
    return noise


def _response_to_noise(
    observations: Inputs,
    expected: Mapping[str, Array],
    reference: SB3Policy,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """For each row, SB3's largest response to one-ulp noise on the observation and the weights.

    Noise on the weights stands for the rounding in each layer, which engines do differently.
    """
    single = _single(observations)
    response = {name: np.zeros(len(array)) for name, array in expected.items()}
    before = _values_or_nan(single, tuple(expected), reference)
    for _ in range(_ULP_DRAWS):
        with weights_one_ulp_off(reference.policy, rng):
            after = _values_or_nan(one_ulp_off(single, rng), tuple(expected), reference)
        for name in response:
            change = _distance(after[name], before[name]).max(axis=1, initial=0)
            # Rounding that makes SB3 itself undefined says nothing of the file.
            response[name] = np.fmax(response[name], np.nan_to_num(change, nan=np.inf))
    return response


def _values_or_nan(
    observations: Inputs, names: tuple[str, ...], reference: SB3Policy
) -> dict[str, Array]:
    """SB3's values, and NaN in the rows for which torch's distributions would refuse."""
    defined = is_finite({PARAMETERS: reference.parameters(observations)})
    values = reference_values(reference, take(observations, defined), names)
    found = {}
    for name, array in values.items():
        dtype = np.result_type(array.dtype, np.float32)
        found[name] = np.full((len(defined), array.shape[1]), np.nan, dtype)
        found[name][defined] = array
    return found


def one_ulp_off(observations: Inputs, rng: np.random.Generator) -> Inputs:
    """Each float32 number of a batch moved to one of its two neighbours."""
    noisy = {}
    for name, array in _single(observations).items():
        noisy[name] = array
        if array.dtype.kind == "f":
            direction = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf)
            noisy[name] = np.nextafter(array, direction.astype(np.float32))
    return noisy


def _margins(parameters: Array, actor: ActorNetwork) -> Array:
    """How far each number of an action is from another value, in logits, ``(rows, numbers)``."""
    space = actor.action_space
    if isinstance(space, MultiBinarySpace):
        return np.abs(parameters)
    assert isinstance(space, (DiscreteSpace, MultiDiscreteSpace))
    cuts: Array = np.cumsum(number_sizes(space))[:-1]
    margins = []
    for logits in np.split(parameters, cuts, axis=1):
        best = np.sort(logits, axis=1)[:, -2:]
        single = best.shape[1] < 2
        margins.append(np.full(len(best), np.inf) if single else best[:, 1] - best[:, 0])
    return np.stack(margins, axis=1)


def number(value: Any) -> Any:
    """A JSON number; what JSON has no number for becomes text."""
    as_float = float(value)
    return as_float if np.isfinite(as_float) else str(as_float)
