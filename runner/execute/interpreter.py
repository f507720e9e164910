"""A worker's process of another Python, which needs torch and nothing else of ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from runner.errors import ConfigError

LENT = ("omegaconf", "yaml", "antlr4", "filelock")
"""What the worker imports beside torch and Python: of ours, where that Python has none."""
LOOK = """
import importlib.util, sys
print(sys.version_info >= (3, 10) and importlib.util.find_spec("torch") is not None)
"""
START = """
import importlib.machinery, json, sys
given = json.loads(sys.argv.pop())
sys.path[:] = given["path"] + [place for place in sys.path if place]
class Lender:
    def __init__(self, folders):
        self.folders = folders
    def find_spec(self, name, path=None, target=None):
        folder = self.folders.get(name)
        return folder and importlib.machinery.PathFinder.find_spec(name, [folder])
sys.meta_path.insert(0, Lender({"runner": given["homes"].pop("runner")}))
sys.meta_path.append(Lender(given["homes"]))
from multiprocessing.connection import Connection
from runner.execute.worker_process import serve
serve(Connection(given["pipe"]))
"""
"""The program of such a process; Python's own ``spawn`` would give it this process's path."""


class Program(subprocess.Popen[bytes]):
    """Such a process, with what a worker asks of one of multiprocessing's."""

    sentinel: int  # a file that is at its end when the process is

    @property
    def exitcode(self) -> int | None:
        """Of a signal its number, below 0; None: it has not ended."""
        return self.poll()

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.poll() is None

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(timeout)

    def close(self) -> None:
        """Give back what it needed here."""
        os.close(self.sentinel)


@dataclass(frozen=True)
class Interpreter:
    """How a side's process is started.

    Attributes:
        python: the interpreter's file.
        path: a folder that comes first on its path; None: none.
        env: environment variables, beside those of this process; None: without this one.
    """

    python: str
    path: str | None
    env: Mapping[str, str | None]

    def __str__(self) -> str:
        path = [f"path={self.path}"] if self.path else []
        return " ".join([self.python, *path, *(f"{k}={v or ''}" for k, v in self.env.items())])

    @classmethod
    def of(cls, name: str, python: str | None, path: str | None, env: Any) -> Interpreter:
        """What the settings of a side say; ConfigError where it cannot run a worker."""
        where = f"ab.{name}"
        if os.name == "nt":
            raise ConfigError("job=ab needs a system whose processes inherit pipes")
        if path and not os.path.isdir(path):
            raise ConfigError(f"{where}.path={path}: there is no such folder")
        env = {} if env is None else env
        if not isinstance(env, dict) or not all(re.fullmatch(r"[^=\0]+", str(key)) for key in env):
            example = f"write {where}.env={{OMP_NUM_THREADS: 1}}"
            raise ConfigError(f"{where}.env={env} names no variables; {example}")
        named = {str(key): None if value is None else str(value) for key, value in env.items()}

        # asked before anything is imported there
        file = shutil.which(python or sys.executable)
        if file is None:
            raise ConfigError(f"{where}.python={python}: there is no such program")
        found, said = cls(os.path.abspath(file), path and os.path.abspath(path), named), ""
        with suppress(OSError):
            said = subprocess.run(
                [found.python, "-c", LOOK],
                env=found.variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                encoding="utf-8",
            ).stdout
        if said.strip() != "True":
            raise ConfigError(
                f"{where}.python={found.python} is no Python 3.10 or later with torch"
            )
        return found

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that it runs with."""
        every = {**os.environ, **self.env}
        return {name: value for name, value in every.items() if value is not None}

    def start(self, child: Connection) -> Program:
        """Start the worker's process, with its end of the pipe."""
        path = [*([self.path] if self.path else []), os.getcwd()]
        origins = {name: str(find_spec(name).origin) for name in ("runner", *LENT)}  # type: ignore[union-attr]  # they are imported here
        homes = {name: str(Path(origin).parents[1]) for name, origin in origins.items()}
        given = json.dumps({"path": path, "homes": homes, "pipe": child.fileno()})
        sentinel, held = os.pipe()
        try:
            program = Program(
                [self.python, "-c", START, given],
                env=self.variables,
                stdin=subprocess.DEVNULL,
                pass_fds=(child.fileno(), held),
            )
        finally:
            os.close(held)
        program.sentinel = sentinel
        return program
