"""The folder of a run: its name, and that it is nobody else's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig

from runner.config.schema import READING
from runner.errors import ConfigError
from runner.files import IN_TURN, beside, bounded_text

GRID = "grid"  # the name of our sweeper
WRITTEN = (
    *("multirun.yaml", "environment.json", "report.md", "report.html"),
    *("speedup.csv", "crossover.csv", "samples.csv", "pairs.csv", "profile.csv"),
    *(IN_TURN, *(beside(IN_TURN, what) for what in ("operations", "environments"))),
)
"""What a run leaves in its folder beside its rows: where one is there, it is somebody's."""


def refuse_results(folder: Path) -> None:
    """Never write over another run, nor into it; ConfigError where there is any near the folder."""
    advice = "choose another folder, or remove it first"
    tables = _tables()
    below = any(any(folder.glob(f"*/{table}")) for table in tables)
    if below or any(os.path.lexists(folder / name) for name in (*tables, *WRITTEN)):
        raise ConfigError(f"{folder} already holds the results of a run; {advice}")
    if (folder.absolute().parent / "multirun.yaml").exists():
        raise ConfigError(f"{folder} lies in the folder of a sweep; {advice.partition(',')[0]}")


def _tables() -> list[str]:
    """The files of rows, by name."""
    from runner.rows.rows import FILE_OF_JOB

    return list(FILE_OF_JOB.values())


def refuse_chdir(hydra: HydraConf | DictConfig) -> None:
    """Refuse a setting of Hydra's that the worker, which serves all cells, cannot follow."""
    if hydra.job.chdir:
        where = "operations run in the folder that the command is started in"
        raise ConfigError(f"hydra.job.chdir=true: {where}; leave it out")


def refuse_run(config: DictConfig) -> None:
    """Refuse the folder of a run that is to be read, where cells are to run."""
    if config.run and config.job not in READING:
        advice = "to take a sweep up again, use resume="
        raise ConfigError(f"run={config.run} goes with job=report; {advice}")


def refuse_parallel(hydra: HydraConf | DictConfig) -> None:
    """Refuse a launcher that would measure cells beside each other."""
    jobs = hydra.launcher.get("n_jobs")
    if jobs not in (None, 1):
        beside = f"hydra.launcher.n_jobs={jobs} would time cells while others run beside them"
        raise ConfigError(f"{beside}; give hydra.launcher.n_jobs=1, and threads= for one cell's")


def free_folder(folder: Path, cell: str, taken: dict[Path, str], *, resuming: bool) -> Path:
    """The folder of a cell, or one with a number behind its name where another's row is in it.

    ``taken`` has the identities of the cells that have been given folders, to which this one is
    added. Where it is ``resuming``, a row of the cell itself may be written over.
    """
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    for free in chain([folder], numbered):
        is_taken = taken.get(free, cell) != cell
        if not is_taken and not _holds_another(free, cell if resuming else None):
            taken[free] = cell
            return free
    raise AssertionError("numbers have no end")


def _holds_another(folder: Path, cell: str | None) -> bool:
    """Whether there is a row in a folder that is not this cell's, be it damaged."""
    names: set[str] = set()
    with suppress(FileNotFoundError, NotADirectoryError):
        names.update(os.listdir(folder))  # once, as a folder for each of many cells is asked for
    for table in map(folder.joinpath, names.intersection(_tables())):
        if table.is_file():
            try:
                rows = bounded_text(table, errors="replace").partition("\n")[2]
            except ValueError:  # too large to be a cell's
                return True
            if rows and (cell is None or cell not in rows):
                return True
    return False


@contextmanager
def claimed(root: Path, *, resuming: bool, begun: Callable[[], bool]) -> Iterator[None]:
    """Have a run's folder to ourselves, and give it back where nothing has ``begun`` in it.

    Where it is ``resuming``, it holds what was measured before. ConfigError where it holds another
    run's results, or another process is at work in it.
    """
    if not resuming:
        refuse_results(root)
    with taken_back(root):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            if not resuming:
                refuse_results(root)  # another may have come and gone since
            try:
                yield
            finally:
                # a run that was refused leaves no trace, so that the next may have the folder
                if not (resuming or begun()):
                    for name in ("multirun.yaml", "environment.json", ".lock"):
                        with suppress(OSError):  # Windows removes no file that is open
                            (root / name).unlink()


@contextmanager
def taken_back(root: Path) -> Iterator[None]:
    """Leave no folder that is made meanwhile, and in which there is nothing in the end."""
    new = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in new:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
        # where it is gone, whoever held it has just given the folder back, and a third may have it
        is_held = (root / ".lock").exists()
    except Timeout:
        is_held = False
    try:
        if not is_held:
            advice = "wait for its end, or choose another folder"
            raise ConfigError(f"{root} is in use by another run; {advice}")
        yield
    finally:
        lock.release()
