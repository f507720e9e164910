"""One call of the runner: its cells, what is made of them, and its exit code.

The command line makes one session and binds it to Hydra's task function, through which the sweeper
and the launcher, which Hydra makes, come by it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from hydra.types import TaskFunction
from omegaconf import DictConfig

from runner.config.schema import Report

if TYPE_CHECKING:  # imported where it is used: a typing error on the command line needs none of it
    from runner.execute.cell_runner import CellRunner


class Session:
    """What lasts from the command line's last check to the exit code."""

    def __init__(self) -> None:
        self.exit_code = 0  # what the process should end with
        # whether a cell has begun, here or on a cluster: before, an error is the configuration's
        self.measuring = False
        self.is_interrupted = False  # whether a signal has asked for its end
        self.is_ab = False  # whether the cells are taken in two environments
        self.quiet = False  # whether neither progress nor tables are printed
        self.begins: Callable[[], None] = lambda: None  # is called before the first cell

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """What a signal does that ends the run."""
        self.is_interrupted = True
        raise KeyboardInterrupt

    @cached_property
    def cells(self) -> CellRunner:
        """What runs the cells."""
        from runner.execute.cell_runner import CellRunner

        return CellRunner(self.begin_measuring)

    def begin_measuring(self) -> None:
        """From here on what goes wrong is no longer the configuration's error."""
        if not self.measuring:
            self.measuring = True
            self.begins()

    def finish(self, root: Path, report: Report, config: DictConfig) -> None:
        """Put a run together from what its cells left, show it, and settle the exit code."""
        from runner.execute.conclusion import concluded

        self.cells.warn_of_edits()
        judged = partial(self.cells.judged, report=report, quiet=self.quiet)
        judge = judged if self.is_ab else None
        self.exit_code = concluded(root, report, config, quiet=self.quiet, judge=judge)

    def close(self) -> None:
        """End the worker, if there was one."""
        if "cells" in self.__dict__:
            self.cells.close()


def session_of(task_function: TaskFunction) -> Session:
    """The session that is bound to a task function, see :class:`runner.cli.main.CellTask`."""
    session = getattr(task_function, "session", None)
    if not isinstance(session, Session):
        raise TypeError(f"{task_function} has no session in which cells could run")
    return session
