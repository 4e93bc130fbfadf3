"""Teacher-forced parity: an ONNX file and Stable-Baselines3 on the same raw observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from trpo_deploy.export.certify.batches import (
    BATCH_SIZES,
    as_inputs,
    concatenate,
    is_finite,
    size_of,
    take,
)
from trpo_deploy.export.certify.check import Check, json_number
from trpo_deploy.export.certify.engines import Engine, Outputs
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.tolerance import (
    SAFETY,
    Expected,
    distance,
    expected_outputs,
    reference_values_or_nan,
)
from trpo_deploy.export.certify.trained_policy import TrainedPolicy
from trpo_deploy.export.certify.worst_case import numbers_of, worst_case
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.export.policy.categories import category_counts
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.outputs import OBS_OK
from trpo_deploy.spec.policy_spec import ACTION, Inputs, PolicySpec
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DiscreteSpace,
    Json,
    MultiBinarySpace,
    MultiDiscreteSpace,
)

_SLOW_ENGINE_ROWS = 256
_SLOW_ENGINE_NUMBERS = 2**17  # numbers of each set that a slow engine is given
_HOW = (
    "distribution parameters, actions and optional outputs against SB3 on the same raw "
    "observations, rounded to the dtypes of the file's inputs, in batches of "
    f"{', '.join(map(str, BATCH_SIZES[:-1]))} and {BATCH_SIZES[-1]}; "
    f"the tolerance of a row is {SAFETY:g} times the largest of: SB3's difference between batch 1 "
    "and 256, its response to one-ulp noise on the network's input and weights (on the raw "
    "observation too if the file rounds the normaliser's mean to float32), and one unit in the "
    "last place for each layer; plus the rounding of an engine that scales the action itself"
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A set of observations with SB3's results for them."""

    name: str
    observations: Inputs
    expected: Mapping[str, Expected]
    """By the output's name, :data:`PARAMETERS` included."""
    actions: Array
    undefined_rows: int
    """Rows that were left out, since SB3's result for them is not finite."""
    actor: ActorNetwork

    @classmethod
    def make(
        cls,
        name: str,
        observations: Inputs,
        file: ExportedFile,
        policy: TrainedPolicy,
        rng: np.random.Generator,
    ) -> Comparison:
        """Run SB3 on a set of observations.

        Args:
            name: Name of the set.
            observations: Raw observations; rows for which SB3's result is not finite are left out.
            file: The file, which has the dtypes of its inputs and the names of its outputs.
            policy: The trained policy.
            rng: Random numbers for the noise that sets the tolerance.
        """
        actor, reference, spec = policy.actor, policy.reference, file.spec
        observations = as_inputs(observations, spec.inputs)
        names = _continuous_outputs(spec, actor)
        with np.errstate(all="ignore"):
            values = reference_values_or_nan(reference, observations, names)
            # States may be infinite; all other values must be finite.
            states = {state.output for state in actor.states}
            defined = is_finite({n: each for n, each in values.items() if n not in states})
            if spec.guard is not None:
                defined &= is_finite(observations)
            observations = take(observations, defined)
            values = {each: array[defined] for each, array in values.items()}
            expected = expected_outputs(
                observations, values, actor, reference, rng, rounds_mean=file.rounds_mean
            )
            actions = reference.actions(observations)
        return cls(name, observations, expected, actions, int((~defined).sum()), actor)

    def check(self, engine: Engine) -> Check:
        """Compare a file in an engine with SB3."""
        rows = self._rows(engine)
        observations = take(self.observations, rows)
        found = run_in_batches(engine, observations)
        parameters = self.expected[PARAMETERS]
        measured: dict[str, Any] = {
            "rows": len(rows),
            "rows_undefined_in_sb3": self.undefined_rows,
            # For example bounds of 3e38, whose neighbours make SB3 itself undefined.
            "rows_without_a_measure": int(np.isinf(parameters.tolerance[rows]).sum()),
        }
        wrong = np.zeros(len(rows), bool)
        cases: list[tuple[float, Json]] = []
        for name, expected in self.expected.items():
            if not engine.computes(name):
                continue
            error = distance(found[name].reshape(len(rows), -1), expected.values[rows])
            tolerance = expected.tolerance[rows]
            if name == ACTION:
                tolerance = tolerance + engine.action_rounding
            # Written so that NaN counts as wrong.
            wrong |= ~(error.max(axis=1, initial=0) <= tolerance)
            error = error[np.isfinite(tolerance)]
            label = self.actor.parameter_name if name == PARAMETERS else name
            if len(rows):
                values = expected.values[rows]
                cases.append(worst_case(label, found[name], values, tolerance, observations))
            measured[f"{label}_error_max"] = json_number(error.max(initial=0))
            if name == ACTION:
                p99 = np.quantile(error, 0.99) if error.size else 0.0
                measured["action_error_p99"] = json_number(p99)
        measured["sb3_batch_noise"] = parameters.batch_noise
        measured["rows_beyond_tolerance"] = int(wrong.sum())
        _, worst = max(cases, key=itemgetter(0), default=(0.0, None))
        if worst is not None:
            measured["worst"] = worst["output"]
        mismatched = self._compare_discrete(rows, found[ACTION], measured)
        passed = not (wrong.any() or mismatched)
        return Check(
            f"parity, {engine.name}, {self.name}",
            passed,
            _HOW,
            measured,
            worst_case=worst,
            note="" if passed else _difference(measured, worst),
        )

    def _rows(self, engine: Engine) -> Array:
        rows = np.arange(len(self.actions))
        if engine.refuses_infinity:
            rows = rows[is_finite(self.observations)]
        if not engine.is_slow or not len(rows):
            return rows
        numbers = numbers_of(self.observations)
        most = max(8, min(_SLOW_ENGINE_ROWS, _SLOW_ENGINE_NUMBERS // numbers))
        chosen = np.linspace(0, len(rows) - 1, min(most, len(rows)))
        return np.asarray(rows[chosen.astype(np.int64)])

    def _compare_discrete(self, rows: Array, found: Array, measured: dict[str, Any]) -> bool:
        """Whether a discrete action differs from SB3's in a way that is not a tie."""
        if isinstance(self.actor.action_space, BoxSpace):
            return False
        parameters = self.expected[PARAMETERS]
        margin = _logit_margins(parameters.values[rows], self.actor)
        mismatch = (found != self.actions[rows]).reshape(margin.shape)
        # If two logits are closer than the rounding error, either action is correct.
        wrong = mismatch & (margin > 2 * parameters.tolerance[rows, None])
        measured["action_mismatches"] = int(mismatch.any(axis=1).sum())
        measured["mismatches_not_explained_by_a_tie"] = int(wrong.any(axis=1).sum())
        measured["smallest_margin"] = json_number(margin.min(initial=np.inf))
        return bool(wrong.any())


def _difference(measured: Mapping[str, Any], worst: Any) -> str:
    """How a file differs from SB3, in words."""
    discrete = measured.get("mismatches_not_explained_by_a_tie", 0)
    if discrete:
        return f"another discrete action than SB3's for {discrete} of {measured['rows']} rows"
    # A number that is not finite is text.
    file, sb3, error, tolerance = (
        f"{float(worst[each]):.{digits}g}"
        for each, digits in (("file", 6), ("sb3", 6), ("error", 2), ("tolerance", 2))
    )
    return (
        f"{worst['output']} is {file} in the file and {sb3} in SB3, an error of {error} where "
        f"{tolerance} is allowed; {measured['rows_beyond_tolerance']} of {measured['rows']} rows "
        "differ"
    )


def run_in_batches(engine: Engine, observations: Inputs) -> Outputs:
    """Run the rows in batches of all :data:`BATCH_SIZES`, the last size repeated."""
    rows, first, largest = size_of(observations), np.cumsum((0, *BATCH_SIZES)), BATCH_SIZES[-1]
    cuts = sorted({min(int(cut), rows) for cut in (*first, *range(first[-1], rows, largest), rows)})
    return concatenate(
        [engine.run(take(observations, slice(start, end))) for start, end in pairwise(cuts)]
    )


def _continuous_outputs(spec: PolicySpec, actor: ActorNetwork) -> tuple[str, ...]:
    """Outputs that are compared as real numbers."""
    discrete = {OBS_OK} if actor.is_gaussian else {OBS_OK, ACTION}
    return tuple(tensor.name for tensor in spec.outputs if tensor.name not in discrete)


def _logit_margins(parameters: Array, actor: ActorNetwork) -> Array:
    """Distance of each number of an action from its second-best value, in logits.

    Returns:
        ``(rows, numbers)``; infinite for a number with a single value.
    """
    space = actor.action_space
    if isinstance(space, MultiBinarySpace):
        return np.abs(parameters)
    assert isinstance(space, (DiscreteSpace, MultiDiscreteSpace))
    cuts: Array = np.cumsum(category_counts(space))[:-1]
    margins = []
    for logits in np.split(parameters, cuts, axis=1):
        best = np.sort(logits, axis=1)[:, -2:]
        single = best.shape[1] < 2
        margins.append(np.full(len(best), np.inf) if single else best[:, 1] - best[:, 0])
    return np.stack(margins, axis=1)
