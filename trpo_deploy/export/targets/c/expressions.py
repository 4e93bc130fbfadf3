"""Element-wise functions as C expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trpo_deploy.export.targets.c.literals import number

_REAL = ("float", "double")


def call(
    function: str, arguments: list[str], ctype: str, parameters: tuple[float, ...], prefix: str
) -> str:
    """An ONNX function of simple expressions.

    Args:
        function: Name of the operator.
        arguments: Names of variables, elements of arrays, or literals, which may be repeated.
        ctype: Type of the result.
        parameters: The operator's attributes.
        prefix: Prefix of helper functions.
    """
    if function == "Cast":
        return f"({ctype}){arguments[0]}"
    template = _TEMPLATES[function]
    real = ctype if ctype in _REAL else "float"
    constants = [number(value, real) for value in parameters]
    literals = {
        name: number(value, ctype) for name, value in (("zero", 0), ("one", 1), ("half", 0.5))
    }
    suffix = "f" if ctype == "float" else ""
    literals["clip"] = f"{prefix}_clip{suffix}"
    text = template(*arguments, *constants).format(f=suffix, **literals)
    # Arithmetic on small integers is done in int.
    return text if ctype in _REAL or ctype in ("int32_t", "int64_t") else f"({ctype})({text})"


def _unary(text: str) -> Callable[..., str]:
    return lambda x, *rest: text.replace("@", x).replace("#", rest[0] if rest else "#")


_TEMPLATES: Mapping[str, Callable[..., str]] = {
    "Abs": _unary("fabs{f}(@)"),
    "Add": lambda a, b: f"{a} + {b}",
    "Celu": _unary("@ < {zero} ? # * expm1{f}(@ / #) : @"),
    "Div": lambda a, b: f"{a} / {b}",
    "Elu": _unary("@ < {zero} ? # * expm1{f}(@) : @"),
    "Equal": lambda a, b: f"{a} == {b}",
    "Erf": _unary("erf{f}(@)"),
    "Exp": _unary("exp{f}(@)"),
    "Greater": lambda a, b: f"{a} > {b}",
    "HardSigmoid": lambda x, a, b: f"{{clip}}({a} * {x} + {b}, {{zero}}, {{one}})",
    "HardSwish": _unary("@ * {clip}(@ / 6 + {half}, {zero}, {one})"),
    "LeakyRelu": _unary("@ < {zero} ? # * @ : @"),
    "Less": lambda a, b: f"{a} < {b}",
    "Log": _unary("log{f}(@)"),
    "Max": lambda a, b: f"{a} > {b} ? {a} : {b}",
    "Min": lambda a, b: f"{a} < {b} ? {a} : {b}",
    "Mul": lambda a, b: f"{a} * {b}",
    "Neg": _unary("-@"),
    "Pow": lambda a, b: f"pow{{f}}({a}, {b})",
    "Reciprocal": _unary("{one} / @"),
    "Relu": _unary("@ > {zero} ? @ : {zero}"),
    "Selu": lambda x, a, g: f"{g} * ({x} > {{zero}} ? {x} : {a} * expm1{{f}}({x}))",
    "Sigmoid": _unary("{one} / ({one} + exp{f}(-@))"),
    "Softplus": _unary("(@ > {zero} ? @ : {zero}) + log1p{f}(exp{f}(-fabs{f}(@)))"),
    "Softsign": _unary("@ / ({one} + fabs{f}(@))"),
    "Sqrt": _unary("sqrt{f}(@)"),
    "Sub": lambda a, b: f"{a} - {b}",
    "Tanh": _unary("tanh{f}(@)"),
    "Where": lambda c, a, b: f"{c} != 0 ? {a} : {b}",
}
