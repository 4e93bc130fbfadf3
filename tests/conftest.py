"""Shared by all tests: their order, one torch thread, agents of 2021, no skipped tests in CI."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

AGENTS = Path(os.environ.get("TRPO_DEPLOY_AGENTS", Path(__file__).parents[2] / "shared" / "agents"))

gc.set_threshold(10_000)  # as the command line does: a fifth of the time to collect the tests


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than processors: tests of servers and robots often wait."""
    return (os.cpu_count() or 1) + 2


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist distribute the files in the order in which they are collected."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of most slow tests, so that no worker has one left at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: slow[item.path], reverse=True)


def pytest_collection_finish() -> None:
    """Modules and tests stay until the end: the garbage collector need not search them again."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    """Fail skipped tests in CI, where everything but a GPU and some rights is there."""
    report = yield
    is_allowed = "gpu" in item.keywords or "needs the right to" in str(report.longrepr)
    if os.environ.get("CI") == "true" and report.skipped and not is_allowed:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing may be missing: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    try:
        import torch
    except ImportError:  # the runtime is tested without it
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def agents() -> Path:
    """RL Zoo's trained agents, in a folder next to the checkout or in $TRPO_DEPLOY_AGENTS."""
    if not AGENTS.is_dir():
        pytest.skip("needs RL Zoo's trained agents (set TRPO_DEPLOY_AGENTS)")
    return AGENTS
