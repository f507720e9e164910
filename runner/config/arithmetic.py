"""Arithmetic as text: read as a tree of a few kinds of node, and never run as Python."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, TypeVar

Value = TypeVar("Value")
LARGEST_EXPONENT = 64  # of plain numbers: 9 ** 9 ** 9 would take longer than anyone waits
MOST_BITS = 4_096  # of a power of whole numbers, as of 9 ** 64 ** 64 ...
LONGEST = 500  # characters: more is no formula for people
DEEPEST = 250  # operations within each other, as a sum of so many characters has

OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def parse(text: str, longest: int = LONGEST, deepest: int = DEEPEST) -> ast.expr:
    """The tree of an expression in Python's syntax; ValueError where it is none, or too large."""
    if len(text) > longest:
        raise ValueError(f"it has {len(text):,} characters; at most {longest:,} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(error.msg) from error
    except (MemoryError, RecursionError):  # of Python's own parser
        tree = None
    if tree is None or depth_of(tree) > deepest:
        raise ValueError("it is nested too deeply")
    return tree


def power(base: object, exponent: object) -> Any:
    """A power; ValueError where plain numbers would make one that nobody can wait for."""
    if isinstance(base, int) and isinstance(exponent, int):
        bits = max(MOST_BITS // LARGEST_EXPONENT, base.bit_length())
        if abs(exponent) * bits > MOST_BITS:
            raise ValueError(f"a power is too large: an exponent is beyond {LARGEST_EXPONENT}")
    return operator.pow(base, exponent)


def depth_of(tree: ast.AST) -> int:
    """How many levels a tree has."""
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, list(chain.from_iterable(map(ast.iter_child_nodes, level)))
    return depth


def operands(node: ast.expr) -> list[ast.expr] | None:
    """The expressions that a node of arithmetic is made of; None where it is something else."""
    match node:
        case ast.Constant(value=int() | float() as constant) if not isinstance(constant, bool):
            return []
        case ast.Name():
            return []
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return [left, right]
        case ast.Call(func=ast.Name(), args=arguments, keywords=[]):
            return arguments
    return None


def build(
    tree: ast.expr,
    names: Mapping[str, Value],
    functions: Mapping[str, Callable[..., Value]],
    number: Callable[[Any], Value],
) -> Value:
    """An expression's value in any arithmetic: tensors, SymPy's expressions, floats.

    The tree holds nothing but what :func:`operands` knows, and functions that there are; ``number``
    makes a number of that arithmetic from an int or a float.
    """

    def value(node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=constant):
                return number(constant)
            case ast.Name(id=name):
                return names[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)  # type: ignore[operator,no-any-return]  # a number of some kind
            case ast.UnaryOp(operand=operand):
                return value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                compute = power if isinstance(op, ast.Pow) else OPERATORS[type(op)]
                return compute(value(left), value(right))  # type: ignore[no-any-return]
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return functions[name](*map(value, arguments))
        raise AssertionError(ast.dump(node))

    return value(tree)
