"""Python literals as text, as in RL Zoo's presets; they are parsed and never evaluated."""

from __future__ import annotations

import ast
from typing import Any

from trpo_deploy.errors import ConfigError


def parse_literal(name: str, text: str) -> Any:
    """Parse a Python expression of literals, ``dict(...)`` calls and dotted names.

    ``dict(net_arch=dict(pi=[64], vf=[64]), activation_fn=nn.ReLU)`` gives ``{"net_arch":
    {"pi": [64], "vf": [64]}, "activation_fn": "nn.ReLU"}``. Names become text; the code that uses
    the value decides which names it accepts.

    Args:
        name: Name of the setting, for messages.
        text: The expression.

    Raises:
        ConfigError: The text contains anything else.
    """
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(
            f"{name}={text!r} cannot be parsed ({reason}); write a YAML mapping, or dict(...) of "
            "numbers, text, lists and names"
        ) from error


def _value(node: ast.expr) -> Any:
    """The value of a node of the syntax tree; other kinds of nodes are refused."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.Name, ast.Attribute)):
        return _dotted_name(node)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return dict(_pair(key, value) for key, value in zip(node.keys, node.values, strict=True))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _negative(_value(node.operand))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args:
            raise ValueError("dict() takes key=value only")
        return dict(_pair(item.arg, item.value) for item in node.keywords)
    raise ValueError(f"{ast.unparse(node)!r} is neither a value nor a name")


def _pair(key: ast.expr | str | None, value: ast.expr) -> tuple[Any, Any]:
    if key is None:
        raise ValueError("** is not allowed")
    return key if isinstance(key, str) else _value(key), _value(value)


def _negative(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"-{value!r} is not a number")
    return -value


def _dotted_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError(f"{ast.unparse(node)!r} is not a name")
