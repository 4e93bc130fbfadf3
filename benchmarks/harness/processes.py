"""Processor time and memory of a server with its workers."""

from __future__ import annotations

import psutil


def cpu_of_each(pid: int) -> list[float]:
    """Processor seconds of a process and of each of its descendants so far."""
    times = [process.cpu_times() for process in _family(pid)]
    return [time.user + time.system for time in times]


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process and all its descendants so far."""
    return sum(cpu_of_each(pid))


def memory(pid: int) -> float:
    """Memory of a process and all its descendants in MB. Shared pages count once (PSS)."""
    return sum(process.memory_full_info().pss for process in _family(pid)) / 1e6


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
