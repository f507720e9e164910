"""The page of ``docs/reference`` that lists what the program refuses, as its code words it.

A message is the text of a ConfigError; what differs from case to case stands as ``...``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
RUNNER = ROOT / "runner"
REFUSALS = ("ConfigError", "unknown")
WORDED = ("cli/hydra_errors.py", "config/keys.py")  # whose functions return messages


class Group(NamedTuple):
    """Messages of some files, under a heading with what to do about them."""

    title: str
    files: tuple[str, ...]  # of runner/, or folders of it
    advice: str


GROUPS = (
    Group(
        "The command line",
        ("cli", "config/keys.py", "config/hydra_internals.py", "errors.py"),
        "The word that is named is wrong, or does not go with another one. Write it as the message "
        "says. `python -m runner --help` lists the keys and the files to choose from; "
        "[Use](../use.md) has commands that work.",
    ),
    Group(
        "Values of keys",
        ("config/schema.py", "config/size.py", "config/dtypes.py", "cells"),
        "A key has a value that it cannot have. [Configuration keys](configuration.md) has each "
        "key with what it takes; `dry_run=true` shows what a command means before it measures.",
    ),
    Group(
        "Sweeps, lists of cells and searches",
        (
            "sweep/grids.py",
            "sweep/listed_cells.py",
            "sweep/crossover_search.py",
            "sweep/sweeper.py",
            "sweep/stock_sweep.py",
            "sweep/objective.py",
            "sweep/launcher.py",
            "execute/progress.py",
        ),
        "The cells could not be made of what was given. [Use](../use.md) has sweeps and lists of "
        "cells; [Python](../python.md) says what Hydra's other sweepers do.",
    ),
    Group(
        "Folders, and runs that are taken up",
        ("sweep/run_folder.py", "sweep/resume.py", "rows", "execute/cell_runner.py"),
        "A folder holds something else, belongs to another run, or was made by other code. Nothing "
        "in it was changed: name another folder, or see [what runs "
        "again](../sweeps.md#what-runs-again).",
    ),
    Group(
        "Operation files, implementations and functions",
        (
            "config/operation.py",
            "config/signature.py",
            "config/implementation.py",
            "config/callables.py",
            "config/fields.py",
            "config/formula.py",
            "config/domain.py",
            "config/operator_database.py",
            "calls/operator_database.py",
            "calls/bound_arguments.py",
        ),
        "A file below `conf/op/`, or the function that it calls, is not what it should be. "
        "[Fields](operation_files.md) explains each field; [Add an operation](../operations.md) "
        "has files that work.",
    ),
    Group(
        "Cases",
        ("config/cases",),
        "A file below `conf/case/` is not what it should be. [Your own functions](../functions.md) "
        "has formulas, functions and tensor code that work.",
    ),
    Group(
        "The calls of a model",
        ("config/workload", "calls/whole_model.py", "models"),
        "A workload's file, or a call in it, is not what it should be. [What a model "
        "pays](../models.md) shows how one is traced and read.",
    ),
    Group(
        "Two runs, two environments",
        ("report/compare.py", "execute/interpreter.py", "execute/two_sides.py", "analysis"),
        "The runs do not go together, or an environment cannot be started. "
        "[Compare](../compare.md) and [Gate a pull request](../ci.md) have commands that work.",
    ),
    Group(
        "Clusters and devices",
        ("cluster", "measure", "hardware"),
        "What the cells should run on is not there or is set otherwise. [More than one "
        "machine](../clusters.md) and [Accelerators](../accelerators.md) say what they need.",
    ),
)


def page() -> str:
    """The whole page, in Markdown."""
    messages = dict(_messages())
    parts = [
        "# Messages of refusal",
        "What is wrong gets one line on standard error and exit code 2, before any time is spent: "
        "what came, what is allowed, what to do. Here are these lines as the code words them, with "
        "`...` for what differs; the part behind the last semicolon is what to do.",
    ]
    for group in GROUPS:
        own = [path for path in messages if path.startswith(group.files)]
        lines = sorted({line for path in own for line in messages.pop(path)})
        parts += [f"## {group.title}", group.advice, "\n".join(f"- `{line}`" for line in lines)]
    assert not messages, f"in no group: {sorted(messages)}"
    return "\n\n".join(parts) + "\n"


def _messages() -> Iterator[tuple[str, list[str]]]:
    """The messages of each file that has any, by its path below runner/."""
    for path in sorted(RUNNER.rglob("*.py")):
        name = path.relative_to(RUNNER).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if found := _File(tree, returns=name in WORDED).messages:
            yield name, found


class _File(ast.NodeVisitor):
    """Walks a file, with what its functions call their parts of a message."""

    def __init__(self, tree: ast.Module, *, returns: bool) -> None:
        self.messages: list[str] = []
        self._returns = returns  # messages too
        self._named = _texts(tree.body)
        self.visit(tree)

    def visit_FunctionDef(self, function: ast.FunctionDef) -> None:
        """The messages of a function, in which names stand for texts."""
        outer = self._named
        self._named = {**outer, **_texts(function.body)}
        self.generic_visit(function)
        self._named = outer

    def visit_Call(self, call: ast.Call) -> None:
        """A refusal is made, to be raised here or elsewhere."""
        if isinstance(call.func, ast.Name) and call.func.id in REFUSALS and call.args:
            # the latter names the nearest word
            nearest = "; did you mean ...?" if call.func.id == "unknown" else ""
            self._keep(_text(call.args[0], self._named) + nearest)
        self.generic_visit(call)

    def visit_Return(self, statement: ast.Return) -> None:
        """A function gives a message."""
        if self._returns and isinstance(statement.value, ast.JoinedStr):
            self._keep(_text(statement.value, self._named))
        self.generic_visit(statement)

    def _keep(self, message: str) -> None:
        line = " ".join(message.split()).replace("`", "'")
        is_whole = any(letter.isalpha() for letter in line) and not line.startswith(";")
        if is_whole:  # and no part of another
            self.messages.append(line)


def _texts(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """What names are given as text in these statements, those within others too."""
    found: dict[str, ast.expr] = {}
    for statement in body:
        for node in ast.walk(statement):
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                continue
            if isinstance(node.value, ast.Constant | ast.JoinedStr | ast.BinOp):
                found[node.targets[0].id] = node.value
    return found


def _text(node: ast.expr, named: Mapping[str, ast.expr]) -> str:
    """The text of an expression, with ``...`` for what is not known before it runs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value, named) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, named)
    if isinstance(node, ast.BinOp):
        return _text(node.left, named) + _text(node.right, named)
    if isinstance(node, ast.Name) and node.id in named:
        # a name's own text may have that name in it
        return _text(named[node.id], {n: t for n, t in named.items() if n != node.id})
    return "..."
