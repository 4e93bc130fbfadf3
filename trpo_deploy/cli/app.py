"""The command ``trpo-deploy``: the list of its commands, and its entry point."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated

import typer

from trpo_deploy.cli.benchmark import benchmark
from trpo_deploy.cli.bundle import bundle
from trpo_deploy.cli.demo import demo
from trpo_deploy.cli.doctor import doctor
from trpo_deploy.cli.evaluate import evaluate
from trpo_deploy.cli.export import export
from trpo_deploy.cli.inspect import inspect
from trpo_deploy.cli.interrupts import install_interrupt_handler
from trpo_deploy.cli.names import names
from trpo_deploy.cli.output import print_error, release_stdout, say
from trpo_deploy.cli.serve import serve
from trpo_deploy.cli.sign import sign
from trpo_deploy.cli.train import train
from trpo_deploy.cli.tune import tune
from trpo_deploy.cli.verify import verify
from trpo_deploy.errors import TrpoDeployError

app = typer.Typer(
    name="trpo-deploy",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_COMMANDS: Mapping[Callable[..., None], str] = {
    demo: "",
    train: "CartPole-v1",
    evaluate: "runs/CartPole-v1 --episodes 5",
    export: "runs/CartPole-v1",
    names: "runs/CartPole-v1 -o names.yaml",
    verify: "runs/CartPole-v1 runs/CartPole-v1/policy.onnx",
    inspect: "runs/CartPole-v1",
    sign: "runs/CartPole-v1 --key private.pem",
    serve: "runs/CartPole-v1",
    bundle: "runs/CartPole-v1 -o bento",
    tune: "CartPole-v1 --trials 20 -n 20000",
    benchmark: "--env CartPole-v1 --seeds 2 -n 20000 -o curves",
    doctor: "",
}
"""The commands in the order of the help, and the arguments of an example of each.

The examples follow one another: ``train`` writes the folder that the others take.
"""
for command, arguments in _COMMANDS.items():
    example = f"trpo-deploy {command.__name__} {arguments}".rstrip()
    app.command(epilog=f"Example: {example}")(command)


def _print_version(asked: bool) -> None:
    if asked:
        import trpo_deploy

        say(f"trpo-deploy {trpo_deploy.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train TRPO policies, export each to one certified ONNX file, serve it."""


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a :class:`TrpoDeployError` (printed as one line), 2 wrong usage.
    """
    install_interrupt_handler()
    _spare_the_garbage_collector()
    # As with ``python -m``, ``module:Class`` may name a module in the working folder. It comes
    # last on the path, so that it cannot shadow an installed one.
    sys.path.append(os.getcwd())
    release_stdout()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot encode "±"
    try:
        app(prog_name="trpo-deploy")
    except TrpoDeployError as error:
        print_error(error)
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print_error(OSError(f"cannot write {error.filename or 'the output'}: the disk is full"))
        sys.exit(1)
    finally:
        with suppress(Exception):  # Python itself reports a closed pipe when it flushes again
            sys.stdout.flush()
        # The command is done. A KeyboardInterrupt while Python shuts down would be printed as
        # "Exception ignored", or abort the process; the signal itself ends it at once.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)


def _spare_the_garbage_collector() -> None:
    """Let commands start and end sooner.

    torch and the modules that it imports make 400,000 objects, which stay until the end. The
    collector would search them again and again during the imports, and once more when Python shuts
    down. Together, that is a third of the processor time of a short command.
    """
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
