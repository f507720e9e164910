"""A worker's process of another Python, which needs torch and nothing else of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, one_line

LENT = (("runner",), ("omegaconf", "yaml", "antlr4", "filelock"))
"""What the worker imports beside torch and Python: always ours, and ours where it has none."""
OLDEST_PYTHON, OLDEST_TORCH = (3, 10), (2, 7)  # that ``pyproject.toml`` allows
LOOK = "import sys; sys.path[:0] = sys.argv[1:]; import torch; v = sys.version_info[:2]"
LOOK += "; print(*v, *torch.__version__.split('.')[:2])"
LOOK_LIMIT_S = 60
START = """
import json, sys, types
from importlib.machinery import PathFinder
from multiprocessing.connection import Connection
path, (ours, lent), pipe = json.loads(sys.argv.pop())
def lender(homes):
    find = lambda name, *_: PathFinder.find_spec(name, [homes[name]]) if name in homes else None
    return types.SimpleNamespace(find_spec=find)
sys.path[:] = path + [place for place in sys.path if place]
sys.meta_path[:] = [lender(ours), *sys.meta_path, lender(lent)]
from runner.execute.worker_process import serve
serve(Connection(pipe), shares_best=False)
"""
"""The program of such a process; Python's own ``spawn`` would give it this process's path."""


class Program(subprocess.Popen[bytes]):
    """Such a process, with what a worker asks of one of multiprocessing's."""

    exitcode = property(subprocess.Popen.poll)
    close = subprocess.Popen.poll  # it needs nothing here that could be given back

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(timeout)


def _dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


@dataclass(frozen=True)
class Interpreter:
    """How a side's process is started."""

    python: str  # its file
    path: str | None  # a folder that comes first on its path
    env: Mapping[str, str | None]  # variables beside those of this process; None: without this one

    def __str__(self) -> str:
        path = [f"path={self.path}"] if self.path else []
        return " ".join([self.python, *path, *(f"{k}={v or ''}" for k, v in self.env.items())])

    @classmethod
    def of(
        cls, name: str, python: str | None, path: str | None, env: object, *, runs: bool = True
    ) -> Interpreter:
        """What the settings of a side say; ConfigError where it cannot run a worker.

        Unless it ``runs``, the program is not asked what it is, as it may be anybody's.
        """
        python, path = (os.path.expanduser(given) if given else None for given in (python, path))
        file = shutil.which(python or sys.executable)
        if file is None:
            raise ConfigError(f"ab.{name}.python={python}: there is no such program")
        if path and not os.path.isdir(path):
            raise ConfigError(f"ab.{name}.path={path}: there is no such folder")
        if not isinstance(env, dict | None):
            raise ConfigError(f"ab.{name}.env={env} is no mapping such as {{OMP_NUM_THREADS: 1}}")
        named = {str(k): None if value is None else str(value) for k, value in (env or {}).items()}
        found = cls(os.path.abspath(file), path and os.path.abspath(path), named)
        if runs and (python or env) and (why := found._objection()):  # else it is this one
            needed = f"Python {_dotted(OLDEST_PYTHON)} or later with torch {_dotted(OLDEST_TORCH)}"
            raise ConfigError(f"ab.{name}.python={found.python} is no {needed} or later: {why}")
        return found

    def _objection(self) -> str:
        """Why it cannot run a worker; blank: it can."""
        asked = [self.python, "-c", LOOK, *([self.path] if self.path else [])]
        told: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace"}
        try:
            done = subprocess.run(
                asked, env=self.variables, timeout=LOOK_LIMIT_S, check=False, **told
            )
        except subprocess.TimeoutExpired:
            return f"importing torch takes more than {LOOK_LIMIT_S} s"
        except OSError as error:
            return one_line(error)
        last = [text.strip().rpartition("\n")[2] for text in (done.stdout, done.stderr)]
        if done.returncode or not re.fullmatch(r"(\d+ ){3}\d+", last[0]):
            return one_line(last[1] or last[0] or "it says nothing of torch")
        *python, torch, minor = map(int, last[0].split())
        if tuple(python) >= OLDEST_PYTHON and (torch, minor) >= OLDEST_TORCH:
            return ""
        return f"it is Python {_dotted(python)} with torch {torch}.{minor}"

    @property
    def command(self) -> list[str]:
        """How the program is started."""
        return [self.python]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that it runs with."""
        return {k: v for k, v in {**os.environ, **self.env}.items() if v is not None}

    def start(self, child: Connection) -> Program:
        """Start the worker's process, with its end of the pipe."""
        path = [*([self.path] if self.path else []), os.getcwd()]
        homes = [{n: str(Path(str(sys.modules[n].__file__)).parents[1]) for n in p} for p in LENT]
        given = json.dumps([path, homes, child.fileno()])
        command, passed = [*self.command, "-c", START, given], (child.fileno(),)
        return Program(command, env=self.variables, stdin=subprocess.DEVNULL, pass_fds=passed)
