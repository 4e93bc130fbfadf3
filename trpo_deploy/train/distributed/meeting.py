"""Where the ranks of one start meet in a store that outlives them."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import TYPE_CHECKING

import torch.distributed as dist

if TYPE_CHECKING:  # torch.distributed has these names, but not for type checkers
    from torch._C._distributed_c10d import Store

_POLL_S = 0.05
_NAME, _MEETING = "trpo-deploy/name", "trpo-deploy/meeting"


def meet(store: Store, rank: int, size: int, timeout_s: float) -> Store:
    """A part of the store that is empty, the same one for all ranks.

    torchrun keeps its store when it starts the ranks again. What dead ranks wrote is still there,
    such as their addresses, and the number of restarts may differ by machine. So each rank writes a
    random name. Rank 0 proposes a meeting of the names that it finds, and another one when a name
    changes. A rank accepts a meeting that has its own name.

    Args:
        store: The store.
        rank: This rank.
        size: Number of ranks.
        timeout_s: Time to wait for the others.

    Raises:
        RuntimeError: The others did not come in this time, or the store does not answer.
    """
    own, end = token_hex(4), time.monotonic() + timeout_s
    store.set(f"{_NAME}/{rank}", own)
    while True:
        names = [f"{_NAME}/{each}" for each in range(size)]
        if rank == 0 and store.check(names):
            store.set(_MEETING, "-".join(store.get(name).decode() for name in names))
        if store.check([_MEETING]):
            meeting = store.get(_MEETING).decode()
            if meeting.split("-")[rank : rank + 1] == [own]:
                store.set(f"{meeting}/{rank}", "here")
                if store.check([f"{meeting}/{each}" for each in range(size)]):
                    part: Store = dist.PrefixStore(meeting, store)  # type: ignore[attr-defined]
                    return part
        if time.monotonic() > end:
            raise RuntimeError(f"waited {timeout_s:.0f} s for the other ranks")
        time.sleep(_POLL_S)
