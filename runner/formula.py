"""Arithmetic on named dimensions, as an operation's YAML writes it: ``2 * batch * m * k * n``."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from runner.errors import ConfigError

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "log2": math.log2,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}


def names_in(formula: str) -> set[str]:
    """The dimensions that ``formula`` mentions.

    Raises:
        ConfigError: ``formula`` is not arithmetic.
    """
    return {node.id for node in ast.walk(_parse(formula)) if isinstance(node, ast.Name)} - _FUNCTIONS.keys()


def evaluate(formula: str, dimensions: Mapping[str, int]) -> float:
    """The value of ``formula`` with its names taken from ``dimensions``.

    >>> evaluate("2 * m * k", {"m": 3, "k": 5})
    30

    Raises:
        ConfigError: a name is no dimension, or the arithmetic cannot be done (a division by zero, a root of -1).
    """
    unknown = sorted(names_in(formula) - dimensions.keys())
    if unknown:
        raise ConfigError(
            f"formula {formula!r}: unknown dimension {', '.join(unknown)}; "
            f"known here: {', '.join(sorted(dimensions)) or 'none'}"
        )
    try:
        return _value(_parse(formula), dimensions)
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ConfigError(f"formula {formula!r} cannot be evaluated for {dict(dimensions)}: {error}") from error


def _parse(formula: str) -> ast.expr:
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except SyntaxError as error:
        raise ConfigError(f"formula {formula!r} is not arithmetic: {error.msg}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            raise ConfigError(f"formula {formula!r}: the functions are {', '.join(_FUNCTIONS)}")
    return tree


def _value(node: ast.expr, dimensions: Mapping[str, int]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return dimensions[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, dimensions)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, dimensions), _value(right, dimensions))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(_value(argument, dimensions) for argument in arguments))
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic on dimensions (use + - * / // % ** and parentheses)")
