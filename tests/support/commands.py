"""Many commands in one process: the start of each is most of its time."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.conftest import LONGEST_S, ROOT

HEAVY = ("torch", "pandas", "numpy", "rich", "sympy", "scipy", "vl_convert")
"""What takes long to import, and no answer to wrong input needs."""

IN_ONE_PROCESS = """
import contextlib, io, json, sys
from runner.cli.main import offer_plugins, run
offer_plugins()
commands, heavy = json.load(sys.stdin)
said = []
for command in commands:
    with (
        contextlib.redirect_stderr(io.StringIO()) as stderr,
        contextlib.redirect_stdout(io.StringIO()) as stdout,
    ):
        try:
            code = run(command)
        except SystemExit as end:  # Hydra's, after --help and its like
            code = end.code or 0
    said.append([code, stderr.getvalue(), stdout.getvalue()])
print(json.dumps([said, [name for name in heavy if name in sys.modules]]))
"""


class Answer(NamedTuple):
    """What a command gave."""

    code: int
    stderr: str
    stdout: str

    @property
    def told(self) -> list[str]:
        """The lines of standard error, without those by which a slow machine says what it is at."""
        return [line for line in self.stderr.splitlines() if not line.endswith(" ...")]


def words_of(command: str) -> list[str]:
    """A command's words, which spaces divide, but for those within brackets or braces."""
    return re.findall(r"[^\s{\[]*[{\[].*[}\]]|\S*{.*|\S+", command)


def answers(
    folder: Path,
    commands: Sequence[str | Sequence[str]],
    *,
    heavy: bool = False,
    root: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> list[Answer]:
    """What each of these arguments of ``python -m runner`` gives, one after the other.

    Args:
        folder: where they run.
        commands: each as its words, or as text, see :func:`words_of`.
        heavy: whether they may import what takes long but for torch, as a report does.
        root: the checkout.
        env: further environment variables.
    """
    words = [
        words_of(command) if isinstance(command, str) else list(command) for command in commands
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "80", **(env or {})},
        input=json.dumps([words, HEAVY]),
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, imported = json.loads(done.stdout)
    assert not (set(imported) & {"torch"} if heavy else imported)
    return [Answer(*answer) for answer in said]


def sweep_of_ways(op: str, ways: str, *others: str) -> str:
    """A sweep's file: an operation in each of the ways that its ``how`` names, and other cells."""
    also = "".join(f"      - {other}\n" for other in others)
    return f"""\
# @package _global_
# python -m runner --config-dir mine +sweep=ways
defaults:
  - override /timing: minimal
limit: {{time_s: 900}}
hydra:
  sweeper:
    params:
      op: {op}
      op.kwargs.how: {ways}
      size: 8
    also:
{also}"""
