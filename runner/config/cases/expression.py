"""A function of named symbols, as a case's YAML writes it: ``sin(x**2 + 1)``. Nothing here imports torch.

The text is read as a tree of a few kinds of node, and never run as Python.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from runner.errors import ConfigError, suggestion

FUNCTIONS = (
    "abs",
    "acos",
    "asin",
    "atan",
    "cos",
    "cosh",
    "erf",
    "exp",
    "log",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
)
CONSTANTS = ("pi",)
LONGEST = 500  # characters: more is no formula for people
DEEPEST = 250  # operations within each other: a sum of LONGEST characters has as many, and they are walked recursively
LARGEST_EXPONENT = 64  # of a number alone: 9 ** 9 ** 9 would take longer than anyone waits

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FLOATS: dict[str, Callable[..., Any]] = {
    name: abs if name == "abs" else getattr(math, name) for name in FUNCTIONS
}
_ALLOWED = f"use symbols, numbers, {', '.join(CONSTANTS)}, + - * / **, parentheses, and {', '.join(FUNCTIONS)}"


def parse(text: str) -> ast.expr:
    """The tree of an expression that holds nothing but what is allowed.

    Raises:
        ConfigError: it is not closed, not arithmetic, or holds anything else.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"expression of {len(text)} characters; at most {LONGEST} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            f"expression {text!r}: {getattr(error, 'msg', error)}; {_ALLOWED}"
        ) from error
    if _depth(tree) > DEEPEST:
        raise ConfigError(
            f"expression {text[:20]!r}... is nested too deeply; at most {DEEPEST} operations are read"
        )
    _check(tree, text)
    return tree


def symbols_in(text: str) -> tuple[str, ...]:
    """The symbols of an expression, in the order in which they first stand in it.

    >>> symbols_in("sin(b*x) + pi*b")
    ('b', 'x')

    Raises:
        ConfigError: see :func:`parse`.
    """
    found = [node for node in ast.walk(parse(text)) if isinstance(node, ast.Name)]
    found.sort(key=lambda node: node.col_offset)
    return tuple(
        dict.fromkeys(node.id for node in found if node.id not in (*FUNCTIONS, *CONSTANTS))
    )


def build(
    tree: ast.expr,
    names: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
    number: Callable[..., Any],
    rounded: Callable[[Any], Any] = lambda value: value,
) -> Any:
    """An expression's value in any arithmetic: tensors, SymPy's expressions, floats.

    Args:
        tree: what :func:`parse` returned.
        names: the value of each symbol and constant.
        functions: those of :data:`FUNCTIONS`.
        number: makes a number of that arithmetic from an int or a float.
        rounded: is put round the result of each operation.
    """

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as constant):
                return number(constant)
            case ast.Name(id=name):
                return names[name]
            case ast.UnaryOp(op=sign, operand=operand):
                return -value(operand) if isinstance(sign, ast.USub) else value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return rounded(_OPERATORS[type(op)](value(left), value(right)))
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                return rounded(functions[name](value(argument)))
        raise AssertionError(ast.dump(node))

    return value(tree)


def _depth(tree: ast.AST) -> int:
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, list(chain.from_iterable(map(ast.iter_child_nodes, level)))
    return depth


def _check(node: ast.expr, text: str) -> bool:
    """Whether a node that is allowed holds a symbol; what holds none is evaluated once, to see that it is small."""
    symbolic = _check_parts(node, text)
    if not symbolic and not isinstance(node, ast.Constant):
        try:
            if isinstance(_constant(node), complex):
                raise ValueError("it is not real")
        except (ArithmeticError, ValueError) as error:
            raise ConfigError(
                f"expression {text!r}: {ast.unparse(node)!r} cannot be evaluated: {error}"
            ) from error
    return symbolic


def _check_parts(node: ast.expr, text: str) -> bool:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float()):
            return False
        case ast.Name(id=name) if name in FUNCTIONS:
            raise ConfigError(f"expression {text!r}: {name} is a function; write {name}(...)")
        case ast.Name(id=name):
            return name not in CONSTANTS
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _check(operand, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            symbolic, exponent = _check(left, text), _check(right, text)
            if (
                isinstance(op, ast.Pow)
                and not exponent
                and abs(_constant(right)) > LARGEST_EXPONENT
            ):
                raise ConfigError(
                    f"expression {text!r}: the exponent {ast.unparse(right)} is beyond {LARGEST_EXPONENT}"
                )
            return symbolic or exponent
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name not in FUNCTIONS:
                hint = suggestion(name, list(FUNCTIONS))
                raise ConfigError(
                    f"expression {text!r}: unknown function {name}{hint}; there are {', '.join(FUNCTIONS)}"
                )
            if len(arguments) != 1:
                raise ConfigError(
                    f"expression {text!r}: {name} takes one argument, not {len(arguments)}"
                )
            return _check(arguments[0], text)
    raise ConfigError(f"expression {text!r}: {ast.unparse(node)!r} is not allowed; {_ALLOWED}")


def _constant(node: ast.expr) -> Any:
    return build(node, {"pi": math.pi}, _FLOATS, float)
