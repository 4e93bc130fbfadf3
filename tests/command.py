"""Runs ``trpo-deploy``: in this process, which is quick, or as a process of its own."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TextIO

import gymnasium
import pytest

from trpo_deploy.cli.app import main

COMMAND = (sys.executable, "-m", "trpo_deploy")


@dataclass(frozen=True)
class Run:
    """Exit code, stdout and stderr of a command."""

    code: int
    output: str
    error: str

    def assert_one_clear_line(self, *says: str) -> None:
        """Exit code 1, one line on stderr, no traceback."""
        assert self.code == 1, (self.code, self.output, self.error)
        assert "Traceback" not in self.output + self.error
        lines = [line for line in self.error.splitlines() if line]
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        for text in says:
            assert text in lines[0], lines[0]


def run_cli(*arguments: object, cwd: Path | None = None) -> Run:
    """Run ``trpo-deploy`` in this process, through the entry point of the installed command.

    Streams, working folder, environment variables, imports from the working folder, warning
    filters and signal handlers are those of a new process, and are restored at the end; so are
    the thresholds of the garbage collector.
    """
    with TemporaryFile() as output, TemporaryFile() as error:
        with (
            _redirected("stdout", 1, output),
            _redirected("stderr", 2, error),
            _process_state(arguments, cwd),
        ):
            code = _exit_code()
        return Run(code, _text(output), _text(error))


def run_process(
    *arguments: object,
    command: tuple[object, ...] = COMMAND,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Run:
    """Run ``python -m trpo_deploy``, or another command, as a process; ``env`` adds variables.

    It has one torch thread, as ``trpo-deploy`` takes itself: beside other tests, several threads of
    a small network take many times as long.
    """
    done = subprocess.run(
        [str(each) for each in (*command, *arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        timeout=240,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def reset_sigint() -> None:
    """For ``preexec_fn``: background jobs of a shell inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _exit_code() -> int:
    """Call ``main`` and end as the interpreter would."""
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _redirected(name: str, descriptor: int, file: IO[bytes]) -> Iterator[None]:
    """Write stdout or stderr to a file; the descriptor too, for C libraries and children."""
    getattr(sys, name).flush()
    saved = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    # Never closed: a logging handler may keep it for longer than this run.
    stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, name, stream)
            yield
    finally:
        stream.flush()
        os.dup2(saved, descriptor)
        os.close(saved)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8")


@contextmanager
def _process_state(arguments: tuple[object, ...], cwd: Path | None) -> Iterator[None]:
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "argv", ["trpo-deploy", *map(str, arguments)])
        patch.setattr(sys, "path", list(sys.path))
        stack.enter_context(_environment_variables())
        stack.enter_context(_signal_handlers())
        stack.enter_context(_torch_threads())
        stack.enter_context(_default_warnings())
        stack.callback(gc.set_threshold, *gc.get_threshold())
        if cwd is not None:
            patch.chdir(cwd)
            stack.enter_context(_imports_from(cwd))
        yield


@contextmanager
def _environment_variables() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _torch_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _default_warnings() -> Iterator[None]:
    """Python's default filters and gymnasium's; warnings go to stderr."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (
            DeprecationWarning,
            PendingDeprecationWarning,
            ImportWarning,
            ResourceWarning,
        ):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
        # gymnasium adds this one when it is first imported.
        warnings.filterwarnings("once", "", DeprecationWarning, module=r"^gymnasium\.")
        vars(warnings)["onceregistry"].clear()
        warnings.showwarning = _write_warning
        yield


def _write_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    (file or sys.stderr).write(text)


@contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Forget the modules of a folder, and the environments that they registered."""
    modules, environments = set(sys.modules), set(gymnasium.registry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        own = [name for name in set(sys.modules) - modules if _lies_in(sys.modules[name], folder)]
        for name in own:
            del sys.modules[name]
        if own:
            for env_id in set(gymnasium.registry) - environments:
                del gymnasium.registry[env_id]


def _lies_in(module: object, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().is_relative_to(folder.resolve())
