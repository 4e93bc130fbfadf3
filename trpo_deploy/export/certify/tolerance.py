"""How far an exact copy of a policy may differ from Stable-Baselines3, measured on SB3 itself.

SB3's own results differ in the last bits between batch sizes, and each rounding error is
amplified by the network. Both set the tolerance of a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from gymnasium import spaces

from trpo_deploy.export.certify.batches import is_finite, one_ulp_off, size_of, take
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.export.policy.layers import Activation, Linear, Standardize
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.observations import next_state_name
from trpo_deploy.export.policy.outputs import OPTIONAL_OUTPUTS
from trpo_deploy.sb3.extra_outputs import extra_outputs
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.weight_noise import weights_one_ulp_off
from trpo_deploy.spec.policy_spec import ACTION, OBS, Inputs
from trpo_deploy.spec.spaces import Array, BoxSpace

# Engines differ from SB3 by a small multiple of SB3's own noise. The largest ratio measured on the
# five agents of 2021 is 3.0.
SAFETY = 8.0
# The maximum over these draws of one-ulp noise measures how a row amplifies rounding errors.
_ULP_DRAWS = 8
_NOISE_ROWS = 128
"""Rows that SB3 evaluates one by one, to measure its batch noise."""


@dataclass(frozen=True, eq=False)
class Expected:
    """SB3's values of one output, with a tolerance for each row."""

    values: Array
    """``(rows, n)``."""
    tolerance: Array
    """``(rows,)``."""
    batch_noise: float
    """Largest difference between SB3's result for a row alone and in a batch."""


def expected_outputs(
    observations: Inputs,
    values: Mapping[str, Array],
    actor: ActorNetwork,
    reference: SB3Policy,
    rng: np.random.Generator,
    *,
    rounds_mean: bool,
) -> dict[str, Expected]:
    """Give SB3's values their tolerances.

    Args:
        observations: Raw observations, in the dtypes of the file's inputs.
        values: SB3's values for them, ``(rows, n)``, by the output's name.
        actor: The policy as the exporter read it.
        reference: The policy as SB3 runs it.
        rng: Random numbers for the noise.
        rounds_mean: Whether the file rounds the normaliser's mean to float32.
    """
    noise = _batch_noise(observations, values, actor, reference)
    response = _response_to_noise(observations, values, reference, rng, rounds_mean=rounds_mean)
    return {
        name: Expected(
            array, SAFETY * np.maximum(response[name], noise[name]), batch_noise=noise[name]
        )
        for name, array in values.items()
    }


@dataclass(frozen=True)
class _NoisyPolicy(SB3Policy):
    """SB3's policy with one-ulp noise on the network's input."""

    rng: np.random.Generator = field(default_factory=np.random.default_rng)

    def network_observation(self, inputs: Inputs) -> Any:
        exact = super().network_observation(inputs)
        if isinstance(exact, Mapping):
            return one_ulp_off(exact, self.rng)
        return one_ulp_off({OBS: exact}, self.rng)[OBS]


def distance(found: Array, expected: Array) -> Array:
    """Absolute difference; zero between equal infinities, which a state may contain."""
    with np.errstate(invalid="ignore"):
        return np.where(found == expected, 0.0, np.abs(found - expected))


def reference_values(
    reference: SB3Policy, observations: Inputs, names: tuple[str, ...]
) -> dict[str, Array]:
    """SB3's values for a batch, each ``(batch, n)``, the distribution's parameters included."""
    optional = [name for name in names if name in OPTIONAL_OUTPUTS]
    found = {PARAMETERS: reference.parameters(observations)}
    if ACTION in names:
        found[ACTION] = reference.actions(observations)
    if set(names) - {PARAMETERS, ACTION, *optional}:
        following = reference.next_states(observations)
        found |= {next_state_name(name): array for name, array in following.items()}
    if optional:
        outputs = extra_outputs(reference, observations)
        found |= {name: outputs[name] for name in optional if name in outputs}
    return {name: array.reshape(len(array), -1) for name, array in found.items()}


def reference_values_or_nan(
    reference: SB3Policy, observations: Inputs, names: tuple[str, ...]
) -> dict[str, Array]:
    """SB3's values, and NaN in rows that torch's distributions would refuse."""
    defined = is_finite({PARAMETERS: reference.parameters(observations)})
    values = reference_values(reference, take(observations, defined), names)
    found = {}
    for name, array in values.items():
        dtype = np.result_type(array.dtype, np.float32)
        found[name] = np.full((len(defined), array.shape[1]), np.nan, dtype)
        found[name][defined] = array
    return found


def _batch_noise(
    observations: Inputs,
    values: Mapping[str, Array],
    actor: ActorNetwork,
    reference: SB3Policy,
) -> dict[str, float]:
    """Largest difference between SB3's result for a row alone and in a batch."""
    size = size_of(observations)
    rows = np.unique(np.linspace(0, size - 1, min(size, _NOISE_ROWS)).astype(np.int64))
    alone = [
        reference_values(reference, take(observations, slice(row, row + 1)), tuple(values))
        for row in rows
    ]
    noise = {}
    for name, array in values.items():
        each = np.concatenate([single[name] for single in alone]) if alone else array[rows]
        difference = distance(each, array[rows]).max(initial=0)
        # At least the rounding error, since SB3 may agree with itself by chance.
        largest = np.abs(array).max(initial=1e-3, where=np.isfinite(array))
        spacing = np.spacing(np.float32(largest))
        rounding = _layer_rounding(name, actor) + _scaling_rounding(name, reference)
        noise[name] = float(max(difference, spacing, rounding))
    return noise


def _layer_rounding(name: str, actor: ActorNetwork) -> float:
    """Smallest error that rounding in each layer causes in an output, even if terms cancel.

    Hidden units are of order one. Engines' tanh, exp and erf, and their sums in a layer norm, may
    differ by one unit in the last place of such a number. Each layer adds its part, and the last
    layer's weights scale the sum.
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
    rounded = sum(isinstance(layer, (Activation, Standardize)) for layer in layers)
    return float(np.finfo(np.float32).eps) * size * (1 + rounded)


def _scaling_rounding(name: str, reference: SB3Policy) -> float:
    """Rounding error of scaling an action to its bounds, which is of the order of the bounds.

    An action near zero is the difference of two numbers of that order.
    """
    squash, rescale = reference.policy.squash_output, bool(reference.inside.action)
    scaled = squash or rescale if name == ACTION else rescale and not squash
    own, outer = reference.action_space, reference.policy_action_space
    if not scaled or name not in (ACTION, PARAMETERS, "mean"):
        return 0.0
    assert isinstance(own, spaces.Box)
    assert isinstance(outer, spaces.Box)
    sizes = np.abs([own.low, own.high, *(reference.inside.scale * [outer.low, outer.high])])
    return float(np.finfo(np.float32).eps * sizes.max(initial=0, where=np.isfinite(sizes)))


def _response_to_noise(
    observations: Inputs,
    values: Mapping[str, Array],
    reference: SB3Policy,
    rng: np.random.Generator,
    *,
    rounds_mean: bool,
) -> dict[str, Array]:
    """SB3's largest response in each row to one-ulp noise on the network's input and weights.

    Noise on the weights imitates the rounding in each layer, which differs between engines. A file
    that rounds the normaliser's mean, or has a wrapper's arithmetic, has an error as if the raw
    observation had that noise.
    """
    raw_noise = rounds_mean or bool(reference.inside.observation)
    response = {name: np.zeros(len(array)) for name, array in values.items()}
    own = {each.name: getattr(reference, each.name) for each in fields(reference)}
    noisy = _NoisyPolicy(**own, rng=rng)
    for _ in range(_ULP_DRAWS):
        with weights_one_ulp_off(reference.policy, rng):
            given = one_ulp_off(observations, rng) if raw_noise else observations
            after = reference_values_or_nan(noisy, given, tuple(values))
        for name in response:
            change = distance(after[name], values[name]).max(axis=1, initial=0)
            # A row in which noise makes SB3 undefined says nothing about the file.
            response[name] = np.fmax(response[name], np.nan_to_num(change, nan=np.inf))
    return response
