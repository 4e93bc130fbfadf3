"""What can go wrong in one call of a control loop."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

Cause: TypeAlias = Literal["late", "stale", "malformed", "not_finite", "out_of_range", "policy"]
"""Why a call got no new action from the policy.

================  ================================================================================
cause             meaning
================  ================================================================================
``late``          the call came more than ``max_delay`` after its time
``stale``         the observation's age is unknown or not within ``max_age``, or a newer one was
                  used before
``malformed``     the observation has another shape, dtype or keys
``not_finite``    a number of the observation is NaN or infinite
``out_of_range``  a number of the observation is outside its range
``policy``        the network failed, or its action is not finite
================  ================================================================================

If several apply, the first in this order counts.
"""

CAUSES: tuple[Cause, ...] = get_args(Cause)
"""All causes, in the order of the checks."""

OnFault: TypeAlias = Literal["hold", "safe", "raise"]
"""Repeat the last action, give the safe action, or raise :class:`ControlError`."""

ON_FAULT: tuple[OnFault, ...] = get_args(OnFault)


class Fault(NamedTuple):
    """Why a call got no new action from the policy, and what was wrong."""

    cause: Cause
    text: str
