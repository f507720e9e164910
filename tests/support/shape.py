"""The shape of ``runner/`` in numbers.

Its rooms, the imports between them, and how dense its code is.

    python tests/support/shape.py

prints a line for each number. ``tests/test_shape.py`` holds those that have a limit.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest needs it on Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "runner"
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@cache
def trees() -> dict[Path, ast.Module]:
    """Every module of the package, parsed, by its path below ``runner/``."""
    paths = (
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "conf"
    )
    return {
        path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in paths
    }


def files_at_the_top() -> list[str]:
    """The files directly in ``runner/``."""
    return sorted(path.name for path in PACKAGE.glob("*.py"))


def folders() -> list[str]:
    """The folders at its first level."""
    ignored = ("__pycache__", "conf")
    return sorted(
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ignored
    )


def project() -> dict[str, Any]:
    """What ``pyproject.toml`` says of the project."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(settings["project"])


def levels() -> dict[str, int]:
    """The level of each room, from the contract that import-linter keeps; the lowest is 0."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layers = reversed(contract["layers"])
    return {room.strip(): level for level, rooms in enumerate(layers) for room in rooms.split("|")}


def imported(tree: ast.Module) -> Iterator[str]:
    """What a module imports of ``runner``, wherever in it, by dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "runner":
            yield from (f"{node.module}.{name.name}" for name in node.names)
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.partition(".")[0] == "runner")


def imports_upwards() -> list[str]:
    """Every import of a room by one that is not above it."""
    level_of = levels()
    wrong = []
    for path, tree in trees().items():
        room = path.parts[0].removesuffix(".py")
        for name in imported(tree):
            target = name.split(".")[1]
            if (
                target in level_of
                and room in level_of
                and target != room
                and level_of[target] >= level_of[room]
            ):
                wrong.append(f"{path} imports {name}")
    return wrong


def nested_conditionals(tree: ast.Module) -> int:
    """Conditional expressions that stand inside another one."""
    return sum(
        any(isinstance(inner, ast.IfExp) for inner in ast.walk(node) if inner is not node)
        for node in ast.walk(tree)
        if isinstance(node, ast.IfExp)
    )


def comprehensions_with_several_for(tree: ast.Module) -> int:
    """Comprehensions with more than one ``for``."""
    return sum(
        isinstance(node, COMPREHENSIONS) and len(node.generators) > 1 for node in ast.walk(tree)
    )


def lists_times_a_condition(tree: ast.Module) -> int:
    """Lists that are multiplied by a condition, which stands for an ``if``.

    ``["view"] * seen.view``.
    """
    return sum(
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and isinstance(node.left, ast.List)
        and not isinstance(node.right, ast.Constant)
        and ast.unparse(node.right).partition("(")[0] != "len"
        for node in ast.walk(tree)
    )


def imports_in_functions(tree: ast.Module) -> int:
    """Import statements inside functions."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    inside = {inner for function in functions for inner in ast.walk(function)}
    return sum(isinstance(node, ast.Import | ast.ImportFrom) for node in inside)


def longest_function() -> tuple[int, str]:
    """The lines of the longest function, and its name."""
    lengths = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.name}")
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    return max(lengths)


def mutable_values() -> list[str]:
    """Names at the top of a module of an empty list, set or mapping, which is made to be filled."""
    empty = ("{}", "[]", "set()", "dict()", "list()")
    return [
        f"{path}:{ast.unparse(node).partition(' = ')[0]}"
        for path, tree in trees().items()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and node.value is not None
        and ast.unparse(node.value) in empty
    ]


def memos(*, of_arguments: bool) -> list[str]:
    """Functions that remember results: of their arguments, or without any until a process ends."""
    found = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any(map(_is_memo, node.decorator_list)):
                takes_any = bool(node.args.args or node.args.kwonlyargs)
                found += [f"{path}:{node.name}"] if takes_any == of_arguments else []
        for node in tree.body if of_arguments else ():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                found += [f"{path}:{ast.unparse(node.targets[0])}"] if _is_memo(node.value) else []
    return found


def _is_memo(made_by: ast.expr) -> bool:
    """Whether what decorates a function, or is called with it, remembers its results."""
    return ast.unparse(made_by).partition("(")[0].removeprefix("functools.") in (
        "cache",
        "lru_cache",
    )


def ruff_findings(rule: str) -> int:
    """How often ruff finds a rule broken in the package; -1 where there is no ruff."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", rule]
    done = subprocess.run(
        [*command, "--output-format", "json", str(PACKAGE)],
        capture_output=True,
        text=True,
        check=False,
    )
    return len(json.loads(done.stdout)) if done.stdout.strip() else -1


def main() -> None:
    """Print every number."""
    parsed = trees()
    sources = [(PACKAGE / path).read_text(encoding="utf-8") for path in parsed]
    length, name = longest_function()
    numbers = {
        "files directly in runner/": len(files_at_the_top()),
        "folders at its first level": len(folders()),
        "levels of the contract": 1 + max(levels().values()),
        "imports upwards": len(imports_upwards()),
        "modules": len(parsed),
        "lines of Python": sum(len(source.splitlines()) for source in sources),
        "conditional expressions inside others": sum(map(nested_conditionals, parsed.values())),
        "comprehensions with several for": sum(
            map(comprehensions_with_several_for, parsed.values())
        ),
        "lists times a condition": sum(map(lists_times_a_condition, parsed.values())),
        "imports in functions": sum(map(imports_in_functions, parsed.values())),
        f"lines of the longest function ({name})": length,
        "values annotated as Any (ANN401)": ruff_findings("ANN401"),
        "mutable values of modules": len(mutable_values()),
        "memos of pure functions": len(memos(of_arguments=True)),
        "memos that last as long as a process": len(memos(of_arguments=False)),
    }
    for what, number in numbers.items():
        print(f"{number:7,}  {what}")


if __name__ == "__main__":
    main()
