"""A command in this process behaves as one in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

import gymnasium
import pytest

from tests.command import run_cli, run_process

MODEL = str(Path(__file__).parent / "fixtures" / "format-1")


@pytest.mark.parametrize(
    "arguments",
    [("inspect", "MODEL"), ("export", "nothing.zip"), ("export", "--nonsense"), ("--help",)],
    ids=lambda arguments: " ".join(arguments),
)
def test_code_stdout_and_stderr_are_those_of_a_process(arguments: tuple[str, ...]) -> None:
    paths = [MODEL if each == "MODEL" else each for each in arguments]
    assert run_cli(*paths) == run_process(*paths)


OWN = """
import os, signal, sys, warnings
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

gymnasium.register("Own-v0", entry_point=CartPoleEnv)
os.environ["OWN"] = "set"
warnings.warn("from the working folder")
warnings.simplefilter("error")
os.write(1, b"from C\\n")
"""


def test_a_run_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)

    def state() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        streams = (sys.stdout, sys.stderr)
        path = (os.getcwd(), list(sys.argv), list(sys.path), dict(os.environ))
        return (
            handlers,
            streams,
            path,
            list(warnings.filters),
            "own" in sys.modules,
            set(gymnasium.registry),
        )

    before = state()
    run = run_cli("train", "own:Other-v0", cwd=tmp_path)
    assert state() == before
    assert "from C\n" in run.output
    assert "warning: from the working folder" in run.error
