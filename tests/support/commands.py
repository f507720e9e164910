"""Many commands in one process: the start of each is most of its time."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HEAVY = ("torch", "pandas", "numpy", "rich")  # what takes long to import, and no wrong input needs

IN_ONE_PROCESS = """
import contextlib, io, json, sys
from runner.cli.main import offer_plugins, run
offer_plugins()
commands, heavy = json.load(sys.stdin)
said = []
for command in commands:
    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.redirect_stdout(io.StringIO()) as stdout:
        code = run(command)
    said.append([code, stderr.getvalue(), stdout.getvalue()])
print(json.dumps([said, [name for name in heavy if name in sys.modules]]))
"""


class Answer(NamedTuple):
    """What a command gave."""

    code: int
    stderr: str
    stdout: str


def words_of(command: str) -> list[str]:
    """A command's words, which are divided by spaces, but for those within brackets or braces."""
    return re.findall(r"[^\s{\[]*[{\[].*[}\]]|\S*{.*|\S+", command)


def answers(folder: Path, commands: Sequence[str | Sequence[str]]) -> list[Answer]:
    """What each of these arguments of ``python -m runner`` gives; none of them may need a heavy module.

    Args:
        folder: where they run.
        commands: each as its words, or as text, see :func:`words_of`.
    """
    words = [
        words_of(command) if isinstance(command, str) else list(command) for command in commands
    ]
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS],
        cwd=folder,
        input=json.dumps([words, HEAVY]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, imported = json.loads(done.stdout)
    assert not imported
    return [Answer(*answer) for answer in said]
