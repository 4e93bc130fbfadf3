"""Stop runs of policies that take too long.

A run in the event loop's thread keeps all other requests of the worker waiting. A thread of the
watchdog looks at the other threads' stacks, so requests pay nothing for it.
"""

from __future__ import annotations

import logging
import sys
from threading import Thread
from time import monotonic, sleep
from types import FrameType

from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.models.served_policy import ServedPolicy

_POLL_S = 0.5
_RUN = OnnxPolicy.run.__code__
_log = logging.getLogger(__name__)


def start_watchdog(limit_s: float) -> None:
    """Stop each run of a policy in this process that takes longer than the limit, in seconds."""
    Thread(target=_watch, args=(limit_s,), name="watchdog", daemon=True).start()


def _watch(limit_s: float) -> None:
    since: dict[FrameType, float] = {}
    while True:
        sleep(_POLL_S)
        now = monotonic()
        # A frame is one call. It stays referenced here, so no later call can be taken for it.
        since = {frame: since.get(frame, now) for frame in _runs()}
        for frame in [frame for frame, start in since.items() if now - start > limit_s]:
            policy = frame.f_locals["self"]
            if isinstance(policy, ServedPolicy):
                _log.error("model %s: a run took longer than %g s, stopped", policy.name, limit_s)
                policy.stop()
            del since[frame]


def _runs() -> list[FrameType]:
    """The calls of :meth:`OnnxPolicy.run` in progress."""
    found = []
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None and frame.f_code is not _RUN:
            frame = frame.f_back
        if frame is not None:
            found.append(frame)
    return found
