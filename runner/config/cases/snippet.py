"""A line of tensor code, as a case's YAML writes it: ``torch.arange(16).reshape(4, 4)`` or ``E[..., -1]``.

The line is read as a tree of a few kinds of node and walked; it is never run as Python. It reaches the functions on
tensors that ``torch`` has, the methods and a few attributes of tensors, and the names that it is given: no files, no
modules. Nothing here imports torch, except what the worker calls.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from runner.errors import ConfigError, one_line, suggestion

ATTRIBUTES = (
    "T",
    "mT",
    "H",
    "grad",
    "real",
    "imag",
    "shape",
    "dtype",
)  # of tensors; methods need no list
NAMESPACES = (
    "linalg",
    "special",
    "fft",
    "nn.functional",
)  # of torch, that hold functions on tensors and no others
ELSEWHERE = ("autograd.grad",)
LARGEST_POWER = 64  # of two plain numbers


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and abs(exponent) > LARGEST_POWER:
        raise ValueError(f"the exponent is beyond {LARGEST_POWER}")  # of plain numbers, without end
    return base**exponent


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.MatMult: operator.matmul,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class CallError(Exception):
    """A call in a snippet was wrong: the message names the function and its signature."""


def parse(text: str, names: Collection[str]) -> ast.expr:
    """The tree of a snippet that holds nothing but what is allowed.

    Args:
        text: the snippet.
        names: those that it may use, beside ``torch``.

    Raises:
        ConfigError: it is not closed, uses an unknown name, or holds anything else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, text, names)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{text!r}: {getattr(error, 'msg', error)}") from error
    except RecursionError as error:
        raise ConfigError(f"{text[:20]!r}... is nested too deeply") from error
    return tree


def check_functions(tree: ast.expr) -> None:
    """Look up each ``torch`` function of a parsed snippet.

    Raises:
        ConfigError: torch has no such function on tensors.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _torch_path(node) and not _is_inner(node, tree):
            _torch(_torch_path(node))


def run(tree: ast.expr, names: Mapping[str, Any]) -> Any:  # noqa: PLR0911  (a kind of node a branch)
    """The value of a parsed snippet.

    Raises:
        CallError: something in it refused its arguments; the message says what, and what it takes.
    """
    match node := tree:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.Attribute(value=of, attr=attribute):
            path = _torch_path(node)
            return (
                _torch(path) if path else _guarded(node, lambda: getattr(run(of, names), attribute))
            )
        case ast.Call(func=function, args=arguments, keywords=keywords):
            args = [run(argument, names) for argument in arguments]
            kwargs = {str(keyword.arg): run(keyword.value, names) for keyword in keywords}
            return _call(node, function, names, args, kwargs)
        case ast.Subscript(value=of, slice=index):
            tensor, position = run(of, names), run(index, names)
            return _guarded(node, lambda: tensor[position])
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(
                *(part if part is None else run(part, names) for part in (lower, upper, step))
            )
        case ast.Tuple(elts=items):
            return tuple(run(item, names) for item in items)
        case ast.List(elts=items):
            return [run(item, names) for item in items]
        case ast.UnaryOp(op=sign, operand=operand):
            value = run(operand, names)
            return _guarded(node, lambda: -value if isinstance(sign, ast.USub) else +value)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = run(left, names), run(right, names)
            return _guarded(node, lambda: _OPERATORS[type(op)](a, b))
        case ast.Compare(left=left, ops=[comparison], comparators=[right]):
            a, b = run(left, names), run(right, names)
            return _guarded(node, lambda: _COMPARISONS[type(comparison)](a, b))
    raise AssertionError(ast.dump(node))


def _call(
    node: ast.Call,
    function: ast.expr,
    names: Mapping[str, Any],
    args: list[Any],
    kwargs: dict[str, Any],
) -> Any:
    import torch

    path = _torch_path(function)
    if path:
        return _guarded(node, lambda: _torch(path)(*args, **kwargs), f"torch.{path}", _torch(path))
    assert isinstance(function, ast.Attribute)
    of = run(function.value, names)
    if not isinstance(of, torch.Tensor):
        raise CallError(
            f"{ast.unparse(node)}: {ast.unparse(function.value)} is a {type(of).__name__}, not a tensor"
        )
    method = getattr(torch.Tensor, function.attr, None)
    if method is None:
        hint = suggestion(function.attr, dir(torch.Tensor))
        raise CallError(f"{ast.unparse(node)}: a tensor has no method {function.attr}{hint}")
    return _guarded(node, lambda: method(of, *args, **kwargs), f"Tensor.{function.attr}", method)


def _guarded(node: ast.expr, value: Callable[[], Any], name: str = "", function: Any = None) -> Any:
    try:
        return value()
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise  # for want of memory, which is a status of its own
        takes = (
            f"; {name} takes {signature(function)}"
            if function is not None and isinstance(error, TypeError)
            else ""
        )
        raise CallError(
            f"{ast.unparse(node)}: {one_line(str(error).partition('Exception raised')[0])}{takes}"
        ) from error


def signature(function: Any) -> str:
    """A function's parameters: from Python where it knows them, otherwise from its documentation's first line."""
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        name = getattr(function, "__name__", "")
        lines = [line.strip() for line in (inspect.getdoc(function) or "").splitlines()]
        found = [line.removeprefix(name) for line in lines if line.startswith(f"{name}(")]
        return found[0] if found else "arguments that it does not document"


def _torch(path: str) -> Any:
    """A function on tensors, or a dtype, by its name below ``torch``.

    Raises:
        ConfigError: there is none.
    """
    import torch

    space, _, name = path.rpartition(".")
    home: Any = torch
    for part in filter(None, space.split(".")):
        home = getattr(home, part, None)
    found = getattr(home, name, None)
    plain = [*dir(torch._C._VariableFunctions), *torch.functional.__all__]
    known = (
        name in plain and name != "from_file"
        if not space
        else space in NAMESPACES or path in ELSEWHERE
    )
    if isinstance(found, torch.dtype) or (known and callable(found)):
        return found
    hint = suggestion(
        name, [word for word in (plain if not space else dir(home)) if not word.startswith("_")]
    )
    raise ConfigError(f"torch.{path} is no function on tensors{hint}")


def _torch_path(node: ast.expr) -> str:
    """``nn.functional.relu`` for ``torch.nn.functional.relu``; blank for anything that does not begin with torch."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts)) if isinstance(node, ast.Name) and node.id == "torch" else ""


def _is_inner(node: ast.Attribute, tree: ast.expr) -> bool:
    return any(isinstance(outer, ast.Attribute) and outer.value is node for outer in ast.walk(tree))


def _check(node: ast.expr, text: str, names: Collection[str]) -> None:
    for part in _parts(node, text, names):
        _check(part, text, names)


def _parts(  # noqa: PLR0912  (a kind of node a branch)
    node: ast.expr, text: str, names: Collection[str]
) -> Iterator[ast.expr]:
    """The expressions that a node is made of.

    Raises:
        ConfigError: the node, or a name in it, is not allowed.
    """
    match node:
        case (
            ast.Constant(value=bool() | int() | float() | str() | None)
            | ast.Constant(value=builtins.Ellipsis)
        ):
            pass
        case ast.Name(id=name) if name in names:
            pass
        case ast.Name(id=name) if name != "torch":
            known = ", ".join(["torch", *names])
            raise ConfigError(
                f"{text!r}: unknown name {name}{suggestion(name, list(names))}; known here: {known}"
            )
        case ast.Attribute(attr=name) if _torch_path(node) and not any(
            part.startswith("_") for part in _torch_path(node).split(".")
        ):
            pass
        case ast.Attribute(value=of, attr=name) if not _torch_path(node) and name in ATTRIBUTES:
            yield of
        case ast.Call(
            func=ast.Attribute(value=of, attr=name) as function, args=arguments, keywords=keywords
        ):
            if any(keyword.arg is None for keyword in keywords):
                raise ConfigError(f"{text!r}: ** is not allowed; write each argument")
            if name.startswith("_"):
                raise ConfigError(
                    f"{text!r}: {name} is not allowed; names with a leading underscore are private"
                )
            yield function if _torch_path(function) else of
            yield from (*arguments, *(keyword.value for keyword in keywords))
        case ast.Subscript(value=of, slice=index):
            yield from (of, index)
        case ast.Slice(lower=lower, upper=upper, step=step):
            yield from (part for part in (lower, upper, step) if part is not None)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            yield from items
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield from (left, right)
        case ast.Compare(left=left, ops=[comparison], comparators=[right]) if (
            type(comparison) in _COMPARISONS
        ):
            yield from (left, right)
        case _:
            raise ConfigError(
                f"{text!r}: {ast.unparse(node)!r} is not allowed; write calls of torch's functions and of tensors' "
                "methods, indices, numbers, lists and operators"
            )
