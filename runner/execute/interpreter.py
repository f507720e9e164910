"""A worker's process of another Python, which needs torch and nothing else of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from runner.errors import ConfigError

LENT = (("runner",), ("omegaconf", "yaml", "antlr4", "filelock"))
"""What the worker imports beside torch and Python: always ours, and ours where it has none."""
LOOK = "import sys, importlib.util as i; print(sys.version_info > (3, 10), i.find_spec('torch'))"
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
        file = shutil.which(python or sys.executable)
        if file is None:
            raise ConfigError(f"ab.{name}.python={python}: there is no such program")
        if path and not os.path.isdir(path):
            raise ConfigError(f"ab.{name}.path={path}: there is no such folder")
        if not isinstance(env, dict | None):
            raise ConfigError(f"ab.{name}.env={env} is no mapping such as {{OMP_NUM_THREADS: 1}}")
        named = {str(k): None if value is None else str(value) for k, value in (env or {}).items()}
        found, said = cls(os.path.abspath(file), path and os.path.abspath(path), named), b""
        if not runs:
            return found
        asked = [found.python, "-c", LOOK]
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.check_output(asked, env=found.variables, stderr=subprocess.DEVNULL)
        if not said.startswith(b"True ModuleSpec"):
            raise ConfigError(f"ab.{name}.python={file} is no Python 3.10 or later with torch")
        return found

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
