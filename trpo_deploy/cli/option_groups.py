"""Groups of options: a dataclass in a command's signature stands for one option a field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

from trpo_deploy.errors import ExportError


def option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options.

    typer reads options from a function's signature, one parameter each. The returned function has
    the fields of each dataclass in place of the dataclass, under the same names and with the same
    ``Annotated[..., typer.Option(...)]``. It calls ``command`` with the dataclass.

    Example:
        ::

            @dataclass(frozen=True)
            class Shared:
                steps: Annotated[int, typer.Option(help="Number of steps.")] = 10

            @option_groups
            def run(name: str, shared: Shared) -> None: ...  # run NAME [--steps N]
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }
    options: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if parameter.name in groups:
            options += _options(groups[parameter.name])
        else:
            hint = hints[parameter.name]
            options.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint))

    @wraps(command)
    def with_groups(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        command(**values)

    with_groups.__dict__["__signature__"] = Signature(options)
    return with_groups


def refuse_options(what: str, group: Any, *names: str) -> None:
    """Refuse options that have no effect.

    Args:
        what: What they do not apply to, for the message.
        group: A dataclass of options.
        names: The options; all of the group by default.

    Raises:
        ExportError: One of them differs from its default.
    """
    for each in fields(group):
        if each.name in (names or (each.name,)) and getattr(group, each.name) != each.default:
            option = each.name.replace("_", "-")
            raise ExportError(f"--{option} does not apply to {what}; leave it out")


def _options(group: type[Any]) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            each.name, Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name]
        )
        for each in fields(group)
    ]
