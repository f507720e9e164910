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


LARGEST_EXPONENT = 64  # 9 ** 9 ** 9 would take longer than anyone waits


def names_in(formula: str) -> set[str]:
    """The dimensions that ``formula`` mentions.

    Raises:
        ConfigError: ``formula`` is not arithmetic.
    """
    tree = _parse(formula)
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in functions
    }


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
        value = _value(_parse(formula), dimensions)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"it is {value}")
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ConfigError(
            f"formula {formula!r} cannot be evaluated for {dict(dimensions)}: {error}"
        ) from error
    return value


def _parse(formula: str) -> ast.expr:
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            f"formula {formula!r} is not arithmetic: {getattr(error, 'msg', error)}"
        ) from error
    _check(tree, formula)
    return tree


def _check(node: ast.expr, formula: str) -> None:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float()) | ast.Name():
            return None
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _check(operand, formula)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            _check(left, formula)
            return _check(right, formula)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name not in _FUNCTIONS:
                raise ConfigError(f"formula {formula!r}: the functions are {', '.join(_FUNCTIONS)}")
            for argument in arguments:
                _check(argument, formula)
            return None
    raise ConfigError(
        f"formula {formula!r}: {ast.unparse(node)!r} is not arithmetic on dimensions; "
        f"use names, numbers, + - * / // % **, parentheses, and {', '.join(_FUNCTIONS)}"
    )


def _value(node: ast.expr, dimensions: Mapping[str, int]) -> float:
    """The value of an expression that :func:`_check` has let through."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return dimensions[name]
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, dimensions)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _value(left, dimensions), _value(right, dimensions)
            if isinstance(op, ast.Pow) and (abs(b) > LARGEST_EXPONENT or (a < 0 and b != int(b))):
                raise ValueError(f"{a} ** {b} is too large or not real")
            return _OPERATORS[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(_value(argument, dimensions) for argument in arguments))
    raise AssertionError(ast.dump(node))
