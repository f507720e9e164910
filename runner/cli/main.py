"""Hydra's door: the command line in, an exit code out. Neither torch nor pandas is imported here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.cli import standard_streams as streams
from runner.cli.arguments import CONF, HERE, with_implied
from runner.cli.help import register
from runner.config.hydra_internals import list_groups_without_copying
from runner.config.schema import Report
from runner.errors import ConfigError
from runner.execute.session import session
from runner.sweep.run_folder import folder_name, refuse_results

if TYPE_CHECKING:
    from runner.rows.rows import Row

INTERRUPTED = 130

register()
OmegaConf.register_new_resolver("folder_name", lambda text: folder_name(str(text)), replace=True)


def main() -> None:
    """Run what the command line says and exit."""
    streams.install()
    offer_plugins()
    if os.getcwd() not in sys.path and "" not in sys.path:  # the console script, unlike python -m, leaves it out
        sys.path.insert(0, os.getcwd())
    sys.exit(streams.exit_code(run(sys.argv[1:])))


def offer_plugins() -> None:
    """Put the sweeper and the launcher where Hydra looks for plugins; before Hydra starts."""
    plugins = str(HERE / "sweep" / "plugins")
    if plugins not in sys.path:
        sys.path.append(plugins)


class _Stopped(BaseException):
    """Carries an error past Hydra, which would print a line of its own for an ``Exception``."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def run(arguments: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit code."""
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # have Hydra raise its errors, so that each gets its exit code here
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    try:
        sys.argv[1:] = with_implied(arguments)
        list_groups_without_copying()
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(run_job)()
        return session().exit_code
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except _Stopped as stopped:
        return _explain(stopped.error, traceback_wanted)
    except (ConfigError, HydraException, OmegaConfBaseException, yaml.YAMLError, OSError) as error:
        return _explain(error, traceback_wanted)
    finally:
        session().close()
        if not traceback_wanted:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def run_job(config: DictConfig) -> list[Row]:
    """Hydra's task function: one cell of a sweep, one cell alone, or a report.

    Returns:
        the cell's rows.
    """
    from runner.cells.cell import cell_of

    folder = Path(HydraConfig.get().runtime.output_dir)
    if config.dry_run:  # under a stock sweeper, which does not know of it
        print(cell_of(config).label)
        return []
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return session().run(cell_of(config), folder)
    try:
        return _run_alone(config, folder)
    except (ConfigError, OSError) as error:
        raise _Stopped(error) from error


def _run_alone(config: DictConfig, folder: Path) -> list[Row]:
    from runner.cells.cell import cell_of
    from runner.cells.grid import check_threads, excluded
    from runner.report.conclude import conclude

    cell = cell_of(config)
    if cell.inapplicable_options:
        raise ConfigError(cell.inapplicable_options)
    if cell.job == "report":
        keys = (text.lstrip("+").partition("=")[0] for text in HydraConfig.get().overrides.task)
        asked = [key.removeprefix("report.") for key in keys if key.startswith("report.")]
        report = Report.of(config)
        session().exit_code = conclude(folder, report, strict=config.strict, measured=False, explicit=asked)
        return []
    if config.run:
        raise ConfigError(f"run={config.run} goes with job=report; to take a sweep up again, use resume=")
    excluded([cell], config.exclude, set())
    if cell.infeasible_reason:
        raise ConfigError(cell.infeasible_reason)
    check_threads([cell])
    refuse_results(folder)
    session().prepare([cell], alone=True)
    session().begin(folder, [cell], Report.of(config))
    print(f"measuring {cell.label}, for {cell.limit.time_s:g} s at most ...", file=sys.stderr, flush=True)
    try:
        return session().run(cell, folder)
    finally:
        session().finish(folder, Report.of(config), strict=config.strict)


def _explain(error: Exception, traceback_wanted: bool) -> int:
    """Print what is wrong, in one line, and say what the exit code is."""
    if traceback_wanted:
        raise error
    measuring = session().measuring
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # Hydra's missing file is both
        where = error.filename or "the output folder"
        advice = "choose another with hydra.run.dir= or hydra.sweep.dir="
        if measuring:
            advice = "what was finished is kept"
        elif any(argument.lstrip("+").startswith(("run=", "resume=")) for argument in sys.argv[1:]):
            advice = "copy that run's folder to where there is room and leave to write, and give the copy"
        print(f"cannot write {where}: {error.strerror or error}; {advice}", file=sys.stderr)
        return 1 if measuring else 2
    if measuring:
        print(error, file=sys.stderr)
        return 1
    from runner.cli.hydra_errors import explained

    print(error if isinstance(error, ConfigError) else explained(error), file=sys.stderr)
    return 2


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
