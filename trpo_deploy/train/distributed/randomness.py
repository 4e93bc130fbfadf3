"""Random numbers that all ranks draw alike.

Permutations, the start of conjugate gradient and the noise of the actions come from generators that
all ranks have in the same state: the ones that a single process would use. Environments and
callbacks use the process's own generators, which differ by rank, so that no environment sees what
another one sees.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch

from trpo_deploy.train.distributed.world import world

GeneratorState: TypeAlias = dict[str, Any]
"""State of NumPy's and torch's global generators."""

_shared: GeneratorState | None = None
"""The shared generators while they are not in use; None while they are, and in a world of one."""


def generator_state() -> GeneratorState:
    """State of the global generators."""
    cuda = torch.cuda.get_rng_state() if _has_gpu() else None
    return {"numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def _has_gpu() -> bool:
    """Whether this process uses a GPU."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def set_generators(state: GeneratorState) -> None:
    """Put the global generators into a state."""
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and _has_gpu():
        torch.cuda.set_rng_state(state["cuda"])


def separate_generators(seed: int) -> None:
    """Keep the present state of the generators as the shared one, and seed this rank's own.

    Args:
        seed: Seed of this rank's generators.
    """
    if world().size > 1:
        set_shared_generators(generator_state())
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)


def shared_generators() -> GeneratorState | None:
    """State of the shared generators; None in a world of one."""
    return _shared


def set_shared_generators(state: GeneratorState | None) -> None:
    """Set the state of the shared generators."""
    global _shared
    _shared = state


@contextmanager
def shared_randomness() -> Iterator[None]:
    """Within the block, the global generators are those that all ranks have in the same state."""
    if _shared is None:
        yield
        return
    own, shared = generator_state(), _shared
    set_shared_generators(None)
    set_generators(shared)
    try:
        yield
    finally:
        set_shared_generators(generator_state())
        set_generators(own)
