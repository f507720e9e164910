"""Many commands in one process, and such processes from one: a start is most of their time."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.conftest import LONGEST_S, ROOT

HEAVY = ("torch", "pandas", "numpy", "rich", "sympy", "scipy", "vl_convert")
"""What takes long to import, and no answer to wrong input needs."""

ANSWERING = """
import contextlib, io, json, os, signal, sys, traceback
if os.fork():
    os._exit(0)  # some tests end all children of their process
from runner.cli.main import offer_plugins, run
offer_plugins()

def answered(folder, environment, commands, longest_s):
    signal.alarm(longest_s)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for command in commands:
        with (
            contextlib.redirect_stderr(io.StringIO()) as stderr,
            contextlib.redirect_stdout(io.StringIO()) as stdout,
        ):
            try:
                code = run(command)
            except SystemExit as end:  # Hydra's, after --help and its like
                code = end.code or 0
        yield code, stderr.getvalue(), stdout.getvalue()

for line in sys.stdin:
    if child := os.fork():
        if status := os.waitpid(child, 0)[1]:
            print(json.dumps([f"ended by {status}", []]), flush=True)
        continue
    try:
        said = [*answered(*json.loads(line))]
    except BaseException:
        said = traceback.format_exc()
    print(json.dumps([said, [*sys.modules]]), flush=True)
    os._exit(0)
"""
"""A process that has imported what the command line needs, and answers in copies of itself."""


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


@cache
def answering(root: Path) -> subprocess.Popen[str]:
    """The process that answers with a checkout's code, until this one ends."""
    begun = subprocess.Popen(
        [sys.executable, "-c", ANSWERING],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    begun.wait()
    return begun


def answers(
    folder: Path,
    commands: Sequence[str | Sequence[str]],
    *,
    heavy: bool = False,
    root: Path = ROOT,
) -> list[Answer]:
    """What each of these arguments of ``python -m runner`` gives, one after the other.

    Each call has a process of its own, which has imported no more than the command line.

    Args:
        folder: where they run.
        commands: each as its words, or as text, see :func:`words_of`.
        heavy: whether they may import what takes long but for torch, as a report does.
        root: the checkout.
    """
    words = [
        words_of(command) if isinstance(command, str) else list(command) for command in commands
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "80"}
    process = answering(root)
    assert process.stdin is not None and process.stdout is not None
    asked = json.dumps([str(folder), environment, words, LONGEST_S])
    print(asked, file=process.stdin, flush=True)
    said, imported = json.loads(process.stdout.readline())
    assert isinstance(said, list), said
    assert not ({"torch"} if heavy else {*HEAVY}) & {*imported}
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
