"""A gradient that fails, as a file of plain torch that shows it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import torch

from runner.calls.bound_arguments import BoundArguments
from runner.calls.bound_case import BoundCase
from runner.calls.bound_operation import BoundOperation
from runner.config.cases.gradient import ExpressionCase
from runner.rows.rows import GradientCheck
from runner.verify.gradients.finding import NO_ORACLE
from runner.verify.gradients.problem import GradientProblem

MOST_ELEMENTS = 400  # of the inputs of a file that somebody is to read
HERE = Path(__file__)
HEAD, BY_DIFFERENCES, BY_PROPERTIES = (
    HERE.with_name(f"{name}.txt") for name in ("wrong_gradient", "by_differences", "by_properties")
)
NOT_SHOWN = ("shared inputs", "form of gradient")  # properties that the file does not try


def script_of(problem: GradientProblem, check: GradientCheck, dtype: torch.dtype) -> str | None:
    """The file for a failing check; None where what is called has no name, or is too large.

    A gradient that an oracle contradicts stands there beside differences. One that is right alone,
    and not when asked in another way, is asked in those ways.
    """
    bound = getattr(problem.call, "__self__", None)
    if not isinstance(bound, BoundOperation) or problem.elements > MOST_ELEMENTS:
        return None
    if check.probe in NOT_SHOWN:
        return None
    tensors = list(problem.inputs)
    names = [n if n.isidentifier() else f"x{n}" for n in bound.names]
    if isinstance(bound, BoundCase):
        named = bound.named(tensors)
        names, tensors = list(named), list(named.values())
    imports, call = _call_of(bound, names)
    if not call:
        return None
    shown = [f"    torch.tensor({t.tolist()}, dtype={t.dtype})," for t in tensors]
    tail = BY_PROPERTIES if check.oracle in NO_ORACLE else BY_DIFFERENCES
    return (HEAD.read_text() + tail.read_text()).format(
        what=f"{bound.op.name}, {check.probe} by {check.oracle}: {check.reason}",
        imports=imports,
        names=", ".join(names),
        call=call,
        tensors="\n".join(shown).replace("nan", "torch.nan").replace("inf", "torch.inf"),
        positions=[names.index(n if n.isidentifier() else f"x{n}") for n in problem.arguments],
        passed="[t.clone() for t in leaves]" if problem.in_place else "leaves",
        dtype=str(dtype).removeprefix("torch."),
    )


class _Name(str):
    """A variable's name, which stands for itself in a call's text."""

    __slots__ = ()
    __repr__ = str.__str__


def _imports_of(expression: str) -> str:
    """What a formula needs; all of torch would hide Python's own names, such as range."""
    calls = (node for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Call))
    functions = sorted({ast.unparse(node.func) for node in calls})
    lines = ["from math import pi"]
    if functions:
        lines.append(f"from torch import {', '.join(functions)}")
    return "\n".join(lines)


def _call_of(bound: BoundOperation, names: list[str]) -> tuple[str, str]:
    args, after, kwargs = bound.op.constants(bound.dimensions)
    dotted, passed = bound.op.call, [f"{n}={n}" for n in names] if bound.op.inputs else names
    if isinstance(bound, BoundCase):
        case = bound.function.args[-1]  # type: ignore[attr-defined]  # of a partial, see bind_case()
        if isinstance(case, ExpressionCase):
            return _imports_of(case.expression), case.expression
        if not case.function:  # a function that nobody can import
            return "", ""
        dotted, kwargs, passed = case.function, dict(case.kwargs), names
    if isinstance(bound, BoundArguments):
        made, by_name = bound.arguments(list(map(_Name, names)), bound.dtype)
        dotted, kwargs = getattr(bound.op.load(), "dotted", dotted), {**by_name, **kwargs}
        passed = list(map(repr, made))
    if bound.op.as_list:
        passed = [f"[{', '.join(names)}]"]
    parts = dotted.split(".")
    heads = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    module = next((head for head in heads if head in sys.modules), parts[0])
    by_name = (f"{k}={v!r}" for k, v in kwargs.items())
    constants = [*map(repr, args), *passed, *map(repr, after), *by_name]
    return f"import {module}", f"{dotted}({', '.join(constants)})"
