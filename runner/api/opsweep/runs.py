"""Sweeps run from Python, in processes of their own, and what they leave as data frames."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from runner.cli.hydra_errors import explained
from runner.cli.main import HYDRAS, offer_plugins
from runner.errors import ConfigError
from runner.files import CONF
from runner.report.column_reference import columns_of, tables
from runner.rows.rows import FILE_OF_JOB
from runner.sweep.grids import as_overrides

if TYPE_CHECKING:
    import pandas as pd

# a file of this folder is not to stand in for our package; main puts the folder back
START = "import sys; sys.path[:1] = filter(None, sys.path[:1]); "
START += "from runner.cli.main import main; main()"
WRONG, INTERRUPTED = 2, 130  # exit codes


def sweep(*words: str, **axes: object) -> pd.DataFrame:
    """Run a sweep as the command line does, and read the table that it leaves.

        sweep("+sweep=cpu", op=["matmul", "add"], size=[64, 256], dtype="float32")

    Args:
        words: of the command line, such as ``"limit.time_s=5"``.
        axes: a value of each, or a list or tuple of them.

    Returns:
        The rows of ``results.csv``, or of the first table that the run has. ``attrs`` has the run's
        folder and its exit code: 1 where a cell or a check failed, which its row says.

    Raises:
        ValueError: the configuration is wrong; nothing was run.
        RuntimeError: the sweep ended without a table.
    """
    try:
        arguments = [*words, *as_overrides("params", axes), "output=json"]
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("hydra.sweeper.params: ")) from None
    command = [sys.executable, "-c", START, "-m", *arguments]
    last = ""
    with (
        TemporaryFile("w+", encoding="utf-8") as answer,  # a pipe would be full while none reads
        subprocess.Popen(
            command,
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # or a terminal's Ctrl+C would reach it beside ours
        ) as process,
    ):
        assert process.stderr is not None
        try:
            for line in process.stderr:  # as it comes, also below a notebook's cell
                sys.stderr.write(line)
                last = line.strip() or last
        except KeyboardInterrupt:
            # what was finished is kept; Windows sends no such signal to one process
            process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
            process.wait()
            raise
        process.wait()
        answer.seek(0)
        text = answer.read()
    if process.returncode == WRONG:
        raise ValueError(last)
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    found: Mapping[str, Any] = json.loads(text) if text.strip() else {}
    folder = Path(found.get("folder", "nowhere"))
    files = [file for file in FILE_OF_JOB.values() if (folder / file).is_file()]
    if not found.get("rows") or not files:
        raise RuntimeError(f"the sweep left no table: {last}")
    frame = read(folder, files[0])
    frame.attrs |= {"folder": str(folder), "exit_code": process.returncode}
    return frame


def compose(*words: str) -> DictConfig:
    """A run's whole configuration, as Hydra composes it from words of the command line.

        compose("op=softmax", "size=256").op.signature

    Raises:
        ValueError: a word is wrong; the message is the command line's.
    """
    offer_plugins()
    within = GlobalHydra.instance().hydra  # where the caller composes a configuration of their own
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose("config", list(words))
    except HYDRAS as error:
        raise ValueError(explained(error)) from None
    finally:
        GlobalHydra.instance().hydra = within


def read(folder: str | Path, table: str = "results.csv") -> pd.DataFrame:
    """A table of a run's folder, whose types do not depend on what the run holds.

    OSError where it is not there, KeyError where no run has such a table.
    """
    import pandas as pd

    return pd.read_csv(Path(folder) / table, dtype=dtypes(table))


def dtypes(table: str = "results.csv") -> dict[str, str]:
    """What ``pandas.read_csv`` takes as ``dtype`` for a table; KeyError where there is no such one.

    Columns of one's own are not among them.
    """
    return {column.name: column.pandas for column in columns_of(tables()[table])}
