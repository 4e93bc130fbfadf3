"""The command ``trpo-deploy``: the list of its commands, and its entry point."""

from __future__ import annotations

import io
import os
import sys

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
from trpo_deploy.cli.output import print_error, release_stdout
from trpo_deploy.cli.serve import serve
from trpo_deploy.cli.sign import sign
from trpo_deploy.cli.train import train
from trpo_deploy.cli.verify import verify
from trpo_deploy.errors import TrpoDeployError

app = typer.Typer(
    name="trpo-deploy",
    help="Train TRPO policies, export each to one certified ONNX file, serve it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_COMMANDS = (
    train,
    evaluate,
    export,
    names,
    verify,
    sign,
    inspect,
    serve,
    bundle,
    benchmark,
    doctor,
    demo,
)
for command in _COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a :class:`TrpoDeployError` (printed as one line), 2 wrong usage.
    """
    install_interrupt_handler()
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
