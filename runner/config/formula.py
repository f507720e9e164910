"""Arithmetic on named dimensions, as an operation's YAML writes it: ``2 * batch * m * k * n``."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

from runner.config.arithmetic import build, operands, parse
from runner.errors import ConfigError, one_line

LARGEST = 1e100  # of a count, by far
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "log2": math.log2,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}


def names_in(formula: str) -> frozenset[str]:
    """The dimensions that ``formula`` mentions; ConfigError where it is not arithmetic."""
    return _parse(formula)[1]


def check_names(where: str, formula: str, known: Collection[str]) -> None:
    """Refuse a formula that is not arithmetic, or mentions a dimension that is not known."""
    unknown = sorted(names_in(formula) - set(known))
    if unknown:
        listed = ", ".join(sorted(known)) or "none"
        dimensions = ", ".join(unknown)
        raise ConfigError(f"{where}: unknown dimension {dimensions}; known here: {listed}")


def evaluate(formula: str, dimensions: Mapping[str, float]) -> float:
    """The value of ``formula``; ConfigError where a name is unknown, or a root is of -1.

    >>> evaluate("2 * m * k", {"m": 3, "k": 5})
    30
    """
    check_names(f"formula {formula!r}", formula, dimensions)
    try:
        value = build(_parse(formula)[0], dimensions, _FUNCTIONS, lambda number: number)
        if isinstance(value, complex) or not abs(value) <= LARGEST:
            raise ValueError("it is not real, or beyond all measure")
    except (ArithmeticError, ValueError, TypeError) as error:
        raise ConfigError(
            f"formula {formula!r} cannot be evaluated for {dict(dimensions)}: {error}"
        ) from error
    return value


@lru_cache(maxsize=1024)  # a sweep has few, and thousands of sizes
def _parse(formula: str) -> tuple[ast.expr, frozenset[str]]:
    """The tree of a formula, and the dimensions in it."""
    try:
        tree = parse(formula)
    except ValueError as error:
        shown = one_line(formula, 60)
        raise ConfigError(f"formula {shown!r} is not arithmetic: {error}") from error
    _check(tree, formula)
    nodes = list(ast.walk(tree))
    functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    names = (node for node in nodes if isinstance(node, ast.Name))
    return tree, frozenset(node.id for node in names if id(node) not in functions)


def _check(node: ast.expr, formula: str) -> None:
    parts = operands(node)
    functions = ", ".join(_FUNCTIONS)
    if parts is None:
        raise ConfigError(
            f"formula {formula!r}: {ast.unparse(node)!r} is not arithmetic on dimensions; "
            f"use names, numbers, + - * / // % **, parentheses, and {functions}"
        )
    match node:
        case ast.Call(func=ast.Name(id=name)) if name not in _FUNCTIONS:
            raise ConfigError(f"formula {formula!r}: the functions are {functions}")
    for part in parts:
        _check(part, formula)
