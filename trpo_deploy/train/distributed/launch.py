"""Joins the ranks that ``torchrun`` started, and ends them together.

``torchrun`` gives each process its rank in environment variables. The ranks also share a store, a
small table that ``torchrun`` keeps. A rank that fails writes its message there, and closes its
connections. The others then cannot send to it, and find the message.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

# Before a group exists: its functions keep the present group in their default arguments. The first
# optimizer imports it, and the group's connections and threads would then last until the end of
# the process, whose exit they can abort.
import torch.distributed.nn
from torch.distributed.rendezvous import rendezvous

from trpo_deploy.errors import ConfigError, RankFailedError, TrainingError
from trpo_deploy.train.distributed.links import Links, connect
from trpo_deploy.train.distributed.meeting import meet
from trpo_deploy.train.distributed.randomness import set_shared_generators
from trpo_deploy.train.distributed.world import (
    LostConnectionError,
    World,
    enter_world,
    world,
)

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

TIMEOUT_VARIABLE = "TRPO_DEPLOY_RANK_TIMEOUT"
"""Environment variable: seconds that a rank waits for the others before it ends.

The ranks wait while rank 0 evaluates, so the time has to be longer than an evaluation.
"""
_DEFAULT_TIMEOUT_S, _MAX_TIMEOUT_S = 1800.0, 1e6
_FAILURE = "failure"
_STORE_TIMEOUT = timedelta(seconds=10)
"""For the store once a rank has failed; the machine that keeps it may be gone."""
_WAIT_FOR_RANK_0_S = 2.0
"""Time for rank 0 to report a failure that all ranks have, before another one does."""
_WAIT_FOR_REPORT_S = 5.0
"""Time for a rank that closed its connections to report why."""
_POLL_S = 0.05


@contextmanager
def joined() -> Iterator[World]:
    """Join the other ranks until the block ends; without ``torchrun`` do nothing.

    If a rank fails, the block raises on every rank: there the error itself, on the others
    :class:`~trpo_deploy.errors.RankFailedError`. To be called in the main thread.

    Yields:
        The ranks.

    Raises:
        ConfigError: The time limit is not a number.
        TrainingError: The ranks cannot connect.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        yield World()
        return
    timeout_s = _timeout(os.environ)
    # Python's handler would wait until a message arrives. Only rank 0 has a state to save.
    stop = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ranks, store = _connect(timeout_s or _DEFAULT_TIMEOUT_S)
    if ranks.rank == 0:
        signal.signal(signal.SIGTERM, stop)
    enter_world(ranks)
    try:
        if timeout_s is None:
            text = os.environ[TIMEOUT_VARIABLE]
            raise ConfigError(f"{TIMEOUT_VARIABLE}={text!r}: expected a number of seconds")
        yield ranks
    except Exception as error:
        _end_together(error, ranks, store)
        raise
    except KeyboardInterrupt as interrupt:
        # torchrun also interrupts the ranks when one of them fails.
        _leave()
        if (failure := _reported(store)) is not None:
            raise RankFailedError(failure) from interrupt
        raise
    finally:
        _leave()
        signal.signal(signal.SIGTERM, stop)


def run_id() -> str | None:
    """Name of the run that ``torchrun`` gives all its restarts; None without ``torchrun``.

    It is the argument ``--rdzv-id``, or else a folder that ``torchrun`` makes for each start.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name != "none":
        return name
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")  # FOLDER/attempt_0/0/error.json
    return str(Path(file).parents[2]) if file else None


def is_restart() -> bool:
    """Whether ``torchrun`` started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _timeout(environ: Mapping[str, str]) -> float | None:
    """The time limit in seconds; None if the value is not a number of seconds."""
    try:
        seconds = float(environ.get(TIMEOUT_VARIABLE, _DEFAULT_TIMEOUT_S))
    except ValueError:
        return None
    return seconds if 0 < seconds <= _MAX_TIMEOUT_S else None


def _connect(timeout_s: float) -> tuple[World, Store]:
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # NCCL wants a GPU for each rank. With fewer, gloo carries the tensors through the CPU.
    own_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= local_size
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if own_gpus and dist.is_nccl_available() else "gloo"
    timeout = timedelta(seconds=timeout_s)
    try:
        whole_store, rank, size = next(rendezvous("env://", timeout=timeout))
        store = meet(whole_store, rank, size, timeout_s)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        links = _links(store, rank, size, timeout_s)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT')}"
        reason = " ".join(str(error).split())
        raise TrainingError(
            f"rank {os.environ['RANK']} cannot connect to the others at {address} ({reason})"
        ) from error
    return World(rank, size, links=links), store


def _links(store: Store, rank: int, size: int, timeout_s: float) -> Links | None:
    """The connections for small sums, if all ranks have them."""
    links = connect(store, rank, size, timeout_s)
    connected = torch.tensor(int(links is not None))
    dist.all_reduce(connected, dist.ReduceOp.MIN)
    if links and not connected:
        links.close()
        return None
    return links


def _end_together(error: Exception, ranks: World, store: Store) -> None:
    """Report an error, or raise :class:`RankFailedError` if another rank reports one."""
    _leave()  # the others notice
    wait_s = 0.0 if ranks.rank == 0 else _WAIT_FOR_RANK_0_S
    if isinstance(error, LostConnectionError):
        wait_s = _WAIT_FOR_REPORT_S
    _reported(store, wait_s)
    with suppress(RuntimeError):
        own = f"rank {ranks.rank}: {error}"
        failure = store.compare_set(_FAILURE, "", own).decode()
        if failure != own:
            raise RankFailedError(failure) from error


def _reported(store: Store, wait_s: float = 0.0) -> str | None:
    """The failure that a rank has reported, or reports in this time."""
    end = time.monotonic() + wait_s
    with suppress(RuntimeError):
        store.set_timeout(_STORE_TIMEOUT)
        while not store.check([_FAILURE]):
            if time.monotonic() >= end:
                return None
            time.sleep(_POLL_S)
        return store.get(_FAILURE).decode()
    return None


def _leave() -> None:
    """Close the connections; further messages of the other ranks to this one fail."""
    set_shared_generators(None)
    if links := world().links:
        links.close()
    enter_world(World())
    if dist.is_initialized():
        with suppress(RuntimeError):
            dist.destroy_process_group()
