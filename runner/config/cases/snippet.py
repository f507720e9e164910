"""A line of tensor code, as a case's YAML writes it: ``torch.arange(16)`` or ``E[..., -1]``.

The line is read as a tree of a few kinds of node and walked; it is never run as Python. It reaches
the functions on tensors that ``torch`` has, the methods and a few attributes of tensors, and the
names that it is given: no files, no modules. torch is imported only by what the worker calls.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

from runner.config.arithmetic import OPERATORS, power
from runner.config.arithmetic import parse as parse_python
from runner.errors import ConfigError, is_out_of_memory, one_line, suggestion

# of tensors; methods need no list
ATTRIBUTES = ("T", "mT", "H", "grad", "real", "imag", "shape", "dtype", "requires_grad", "is_leaf")
# of torch, that hold functions on tensors and no others
NAMESPACES = ("linalg", "special", "fft", "nn.functional")
ELSEWHERE = ("autograd.grad",)
LONGEST = 100_000  # characters of a snippet
DEEPEST = 450  # levels, since a snippet is walked recursively


_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], object]] = {
    **OPERATORS,
    ast.Pow: power,
    ast.MatMult: operator.matmul,
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
    """The tree of a snippet that holds nothing but what is allowed, ``torch`` and these names."""
    try:
        tree = parse_python(text, LONGEST, DEEPEST)
        _check(tree, text, names)
    except ValueError as error:
        raise ConfigError(f"{one_line(text, 60)!r}: {error}") from error
    return tree


def check_functions(tree: ast.expr) -> None:
    """Look up each ``torch`` function of a parsed snippet; ConfigError where there is none."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {id(node.value) for node in attributes}
    for node in attributes:
        if _torch_path(node) and id(node) not in inner:
            _torch(_torch_path(node))


def run(node: ast.expr, names: Mapping[str, Any]) -> Any:  # noqa: PLR0911  (a kind of node a branch)
    """The value of a parsed snippet; CallError says what in it refused which arguments."""
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name):
            return names[name]
        case ast.Attribute() if path := _torch_path(node):
            return _torch(path)
        case ast.Attribute(value=of, attr=attribute):
            tensor = run(of, names)
            return _guarded(node, lambda: getattr(tensor, attribute))
        case ast.Call(func=function, args=arguments, keywords=keywords):
            args = [run(argument, names) for argument in arguments]
            kwargs = {str(keyword.arg): run(keyword.value, names) for keyword in keywords}
            name, called, first = _callable(node, function, names)
            return _guarded(node, lambda: called(*first, *args, **kwargs), name, called)
        case ast.Subscript(value=of, slice=index):
            tensor, position = run(of, names), run(index, names)
            return _guarded(node, lambda: tensor[position])
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(part and run(part, names) for part in (lower, upper, step)))
        case ast.Tuple(elts=items):
            return tuple(run(item, names) for item in items)
        case ast.List(elts=items):
            return [run(item, names) for item in items]
        case ast.UnaryOp(op=sign, operand=operand):
            number = run(operand, names)
            return _guarded(node, lambda: -number if isinstance(sign, ast.USub) else +number)
        case (
            ast.BinOp(left=left, op=op, right=right)
            | ast.Compare(left=left, ops=[op], comparators=[right])
        ):
            a, b = run(left, names), run(right, names)
            return _guarded(node, lambda: _OPERATORS[type(op)](a, b))
    raise AssertionError(ast.dump(node))


def _callable(
    node: ast.Call, function: ast.expr, names: Mapping[str, object]
) -> tuple[str, Callable[..., object], list[object]]:
    """What a call calls: its name, the function, and the tensor where it is a method of one."""
    import torch

    if path := _torch_path(function):
        return f"torch.{path}", _torch(path), []
    assert isinstance(function, ast.Attribute)
    tensor, name = run(function.value, names), function.attr
    if not isinstance(tensor, torch.Tensor):
        shown, kind = ast.unparse(function.value), type(tensor).__name__
        raise CallError(f"{ast.unparse(node)}: {shown} is a {kind}, not a tensor")
    method = getattr(torch.Tensor, name, None)
    if method is None:
        hint = suggestion(name, dir(torch.Tensor))
        raise CallError(f"{ast.unparse(node)}: a tensor has no method {name}{hint}")
    return f"Tensor.{name}", method, [tensor]


def _guarded(
    node: ast.expr,
    value: Callable[[], object],
    name: str = "",
    function: Callable[..., object] | None = None,
) -> object:
    try:
        return value()
    except Exception as error:
        if is_out_of_memory(error):
            raise  # which is a status of its own
        reason = one_line(str(error).partition("Exception raised")[0])
        if function is not None and isinstance(error, TypeError):
            reason += f"; {name} takes {signature(function)}"
        raise CallError(f"{ast.unparse(node)}: {reason}") from error


def signature(function: Callable[..., object]) -> str:
    """A function's parameters, from Python or else from its documentation's first line."""
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        name = getattr(function, "__name__", "")
        for line in (inspect.getdoc(function) or "").splitlines():
            if line.strip().startswith(f"{name}("):
                return line.strip().removeprefix(name)
        return "arguments that it does not document"


def _torch(path: str) -> Any:
    """A function on tensors, or a dtype, by its name below ``torch``; ConfigError for others."""
    import torch

    space, _, name = path.rpartition(".")
    home: object = torch
    for part in filter(None, space.split(".")):
        home = getattr(home, part, None)
    named = getattr(home, name, None)

    if space:
        allowed = space in NAMESPACES or path in ELSEWHERE
        known = dir(home)
    else:
        known = [*dir(torch._C._VariableFunctions), *torch.functional.__all__]
        known = [word for word in known if word != "from_file"]
        allowed = name in known
    # torch's own numbers are inf, nan, pi and e
    if isinstance(named, torch.dtype | float) or (allowed and callable(named)):
        return named
    hint = suggestion(name, (word for word in known if not word.startswith("_")))
    raise ConfigError(f"torch.{path} is no function on tensors{hint}")


def _torch_path(node: ast.expr) -> str:
    """``nn.functional.relu`` for ``torch.nn.functional.relu``; blank where it is not torch's."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join(parts) if isinstance(node, ast.Name) and node.id == "torch" else ""


def _check(  # noqa: PLR0912  (a kind of node a branch)
    node: ast.expr, text: str, names: Collection[str]
) -> None:
    """Refuse a node that is not allowed, or holds one."""
    path = _torch_path(node)
    parts: list[ast.expr | None] = []
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None | builtins.Ellipsis):
            pass
        case ast.Name(id=name) if name in names:
            pass
        case ast.Name(id=name) if name != "torch":
            known = ", ".join(["torch", *names])
            hint = suggestion(name, names)
            raise ConfigError(f"{text!r}: unknown name {name}{hint}; known here: {known}")
        case ast.Attribute() if path and "._" not in f".{path}":
            pass
        case ast.Attribute(value=of, attr=name) if not path and name in ATTRIBUTES:
            parts = [of]
        case ast.Call(func=ast.Attribute(value=of, attr=name) as function):
            if any(keyword.arg is None for keyword in node.keywords):
                raise ConfigError(f"{text!r}: ** is not allowed; write each argument")
            if any(keyword.arg == "check_invariants" for keyword in node.keywords):
                raise ConfigError(f"{text!r}: check_invariants is not allowed; they are checked")
            if name.startswith("_"):
                raise ConfigError(
                    f"{text!r}: {name} is not allowed; names with a leading underscore are private"
                )
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            parts = [function if _torch_path(function) else of, *arguments]
        case ast.Subscript(value=of, slice=index):
            parts = [of, index]
        case ast.Slice(lower=lower, upper=upper, step=step):
            parts = [lower, upper, step]
        case ast.Tuple(elts=items) | ast.List(elts=items):
            parts = [*items]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            parts = [operand]
        case (
            ast.BinOp(left=left, op=op, right=right)
            | ast.Compare(left=left, ops=[op], comparators=[right])
        ) if type(op) in _OPERATORS:
            parts = [left, right]
        case _:
            raise ConfigError(
                f"{text!r}: {ast.unparse(node)!r} is not allowed; write calls of torch's functions "
                "and of tensors' methods, indices, numbers (torch.inf, torch.nan), lists "
                "and operators"
            )
    for part in filter(None, parts):
        _check(part, text, names)
