"""A function of named symbols, as a case's YAML writes it: ``sin(x**2 + 1)``."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable

from runner.config.arithmetic import LARGEST_EXPONENT, build, operands
from runner.config.arithmetic import parse as parse_arithmetic
from runner.errors import ConfigError, one_line, unknown

TRIGONOMETRIC = ("acos", "asin", "atan", "cos", "cosh", "sin", "sinh", "tan", "tanh")
FUNCTIONS = tuple(sorted(("abs", "erf", "exp", "log", "sqrt", *TRIGONOMETRIC)))
CONSTANTS = ("pi",)
_FLOATS: dict[str, Callable[..., float]] = {
    name: abs if name == "abs" else getattr(math, name) for name in FUNCTIONS
}
_ALLOWED = (
    f"use symbols, numbers, {', '.join(CONSTANTS)}, + - * / **, parentheses, "
    f"and {', '.join(FUNCTIONS)}"
)


def parse(text: str) -> ast.expr:
    """The tree of an expression that holds nothing but what is allowed; ConfigError otherwise."""
    try:
        tree = parse_arithmetic(text)
    except ValueError as error:
        raise ConfigError(f"expression {one_line(text, 60)!r}: {error}; {_ALLOWED}") from error
    _check(tree, f"expression {text!r}")
    return tree


def symbols_in(text: str) -> tuple[str, ...]:
    """The symbols of an expression, in the order in which they first stand in it.

    >>> symbols_in("sin(b*x) + pi*b")
    ('b', 'x')
    """
    names = [node for node in ast.walk(parse(text)) if isinstance(node, ast.Name)]
    names.sort(key=lambda node: node.col_offset)
    known = (*FUNCTIONS, *CONSTANTS)
    return tuple(dict.fromkeys(node.id for node in names if node.id not in known))


def _check(node: ast.expr, where: str) -> bool:
    """Whether an allowed node holds a symbol; one that holds none has to be a real number."""
    parts = operands(node)
    match node:
        case ast.Name(id=name) if name in FUNCTIONS:
            raise ConfigError(f"{where}: {name} is a function; write {name}(...)")
        case ast.Name(id=name):
            return name not in CONSTANTS
        case ast.BinOp(op=ast.FloorDiv() | ast.Mod()):  # they have no derivative
            parts = None
        case ast.Call(func=ast.Name(id=name), args=arguments) if parts is not None:
            if name not in FUNCTIONS:
                raise unknown(f"{where}: unknown function {name}", name, FUNCTIONS)
            if len(arguments) != 1:
                raise ConfigError(f"{where}: {name} takes one argument, not {len(arguments)}")
    if parts is None:
        raise ConfigError(f"{where}: {ast.unparse(node)!r} is not allowed; {_ALLOWED}")

    symbolic = [_check(part, where) for part in parts]
    match node:
        case ast.BinOp(op=ast.Pow(), right=exponent) if not symbolic[1]:
            if abs(_constant(exponent)) > LARGEST_EXPONENT:
                shown = ast.unparse(exponent)
                raise ConfigError(f"{where}: the exponent {shown} is beyond {LARGEST_EXPONENT}")
    if any(symbolic):
        return True
    try:
        if isinstance(_constant(node), complex):
            raise ValueError("it is not real")
    except (ArithmeticError, ValueError) as error:
        shown = ast.unparse(node)
        raise ConfigError(f"{where}: {shown!r} cannot be evaluated: {error}") from error
    return False


def _constant(node: ast.expr) -> float:
    return build(node, {"pi": math.pi}, _FLOATS, float)
