"""The command line in, an exit code out. Neither torch nor pandas is imported in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import hydra
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import env_override
from hydra.errors import HydraException
from hydra.plugins.plugin import Plugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner import __version__
from runner.cli import standard_streams as streams
from runner.cli.arguments import AB, QUIET, VERSION, Arguments, schema_wanted, with_implied
from runner.cli.help import register
from runner.cli.hydra_errors import explained
from runner.config.hydra_internals import (
    check_config_files,
    have_plugins_been_sought,
    heed_code_in_files,
    list_groups_without_copying,
    run_within,
    sweep_by,
    sweeper_of,
    without_hydra,
)
from runner.config.schema import JSON, READING, Compare, Report
from runner.errors import CellFailed, ConfigError, one_line, printable, tell
from runner.execute.session import Session
from runner.files import CONF, PACKAGE
from runner.sweep.run_folder import GRID, claimed, free_folder, refuse_chdir, refuse_run

if TYPE_CHECKING:  # a typing error needs none of it
    from runner.cells.cell import Cell
    from runner.rows.rows import Row

INTERRUPTED = 130
HYDRAS = (HydraException, OmegaConfBaseException, yaml.YAMLError)


def _folder_name(text: object) -> str:
    """A resolver: a job's overrides as part of a folder's name."""
    from runner.cells.hydra_files import folder_name

    return folder_name(str(text))


register()
OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)


def main() -> None:
    """Run what the command line says and exit."""
    streams.install()
    offer_plugins()
    try:
        runs_nothing = Arguments.parse(sys.argv[1:]).runs_nothing
    except ConfigError:  # as run() says then
        runs_nothing = True
    if runs_nothing:
        # plugins first: those in this folder are code too
        Plugins.instance()
        sys.path.append(os.getcwd())
    elif not {os.getcwd(), ""} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    sys.exit(streams.exit_code(run(sys.argv[1:])))


def offer_plugins() -> None:
    """Put the sweeper and the launcher where Hydra looks for plugins, also where it has looked."""
    plugins = PACKAGE / "sweep" / "plugins"
    if str(plugins) in sys.path:
        return
    sys.path.append(str(plugins))
    if have_plugins_been_sought():  # as in a notebook that uses Hydra itself
        for file in iter_modules([str(plugins / "hydra_plugins")]):
            module = import_module(f"hydra_plugins.{file.name}")
            own = [value for value in vars(module).values() if isinstance(value, type)]
            for plugin in own:
                if issubclass(plugin, Plugin) and plugin.__module__ == module.__name__:
                    Plugins.instance().register(plugin)


def run(arguments: Sequence[str]) -> int:
    """Run what the arguments say; returns the exit code."""
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, and each gets its code here
    session = Session()
    _heed_signals(session)
    try:
        if VERSION in Arguments.parse(arguments).words:
            return _print_versions()
        if output := schema_wanted(arguments):
            return _print_schema(output)
        sys.argv[1:] = with_implied(arguments)
        session.is_ab, session.quiet = AB in arguments, QUIET in arguments
        list_groups_without_copying()
        check_config_files()
        heed_code_in_files(wanted=not Arguments.parse(arguments).runs_nothing)
        task = CellTask(session)
        run_within(task.prepared)
        sweep_by(task.swept)
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(task)()
        return session.exit_code
    except KeyboardInterrupt:
        return _end_interrupted()
    except SystemExit as end:  # Hydra's own errors, which are all of the command line
        raise SystemExit(2 if end.code == 1 else end.code) from None
    except (_PastHydra, Exception) as raised:  # also one that we did not think of ends in a line
        if session.is_interrupted:  # in code of others, whose cleaning up then failed
            return _end_interrupted()
        error = raised.error if isinstance(raised, _PastHydra) else raised
        if traceback_wanted:
            raise error from error.__cause__
        return _show(error, measuring=session.measuring or isinstance(error, CellFailed))
    finally:
        session.close()
        if not traceback_wanted:
            os.environ.pop("HYDRA_FULL_ERROR", None)


class CellTask:
    """Hydra's task function: one cell of a sweep, one cell alone, or a report."""

    def __init__(self, session: Session) -> None:
        self.session = session  # also for our sweeper and launcher, which get this function
        self._taken: dict[Path, str] = {}  # by a stock launcher's jobs

    def __call__(self, config: DictConfig) -> list[Row] | float:
        """Run what a composed configuration says; returns the cell's rows, or its objective."""
        from runner.cells.cell import cell_of

        cell = cell_of(config, HydraConfig.get().overrides.task)
        folder = Path(HydraConfig.get().runtime.output_dir)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return self._run_job(cell, config, folder)
        try:
            if cell.job in READING:
                self.session.exit_code = _read(cell.job, config, folder, quiet=self.session.quiet)
                return []
            self.session.cells.record_environment(folder, 1, Report.of(config))
            if not self.session.quiet:
                tell(f"measuring {cell.label}, for {cell.limit.time_s:g} s at most ...")
            try:
                return self.session.cells.run(cell, folder)
            finally:
                self.session.finish(folder, Report.of(config), config)
        except (ConfigError, OSError) as error:
            raise _PastHydra(error) from error

    @contextmanager
    def prepared(self, config: DictConfig) -> Iterator[None]:
        """Check a cell that is no sweep's, and have its folder, before Hydra writes anything there.

        ConfigError where the cell or the folder is wrong; then nothing has been written.
        """
        from runner.cells.cell import cell_of
        from runner.cells.grid import check_threads, excluded

        cell = cell_of(without_hydra(config))
        if config.objective:
            raise ConfigError("objective= goes with a sweep, whose sweeper asks for it")
        if cell.inapplicable_options:
            raise ConfigError(cell.inapplicable_options)
        if cell.job in READING:
            yield
            return
        refuse_run(config)
        if config.dry_run:
            raise ConfigError("dry_run=true: this lists no cells; say so on the command line alone")
        excluded([cell], config.exclude, set())
        if cell.infeasible_reason:
            raise ConfigError(cell.infeasible_reason)
        check_threads([cell])
        refuse_chdir(config.hydra)
        folder = Path(config.hydra.run.dir)
        with (
            env_override(config.hydra.job.env_set),
            claimed(folder, resuming=False, begun=lambda: self.session.measuring),
        ):
            self.session.cells.prepare([cell], require_devices=True)
            yield

    def __reduce__(self) -> tuple[Callable[[], CellTask], tuple[()]]:
        """Give a stock launcher's other processes sessions: a worker belongs to its parent."""
        return _task_of_this_process, ()

    def swept(self, sweeper: Sweeper, loader: ConfigLoader, config: DictConfig) -> object:
        """What is to sweep: our sweeper itself, another one with what ours has around it."""
        from runner.sweep.objective import check_objective
        from runner.sweep.stock_sweep import StockSweep

        check_objective(config.objective)
        if sweeper_of(config) == GRID:
            return sweeper
        return StockSweep(sweeper, loader, config, self.session)

    def _run_job(self, cell: Cell, config: DictConfig, folder: Path) -> list[Row] | float:
        """Run a cell for a stock launcher, which knows of no failure and of no rule."""
        from runner.cells.grid import is_excluded
        from runner.sweep.launcher import raise_failure
        from runner.sweep.objective import objective_of

        if is_excluded(cell, config.exclude):
            return objective_of(cell, [], config.objective) if config.objective else []
        refuse_chdir(HydraConfig.get())
        own = free_folder(folder, cell.identity, self._taken, resuming=bool(config.resume))
        own.mkdir(exist_ok=True)
        rows = self.session.cells.run(cell, own)
        raise_failure(cell, rows)
        return objective_of(cell, rows, config.objective) if config.objective else rows


def _read(job: str, config: DictConfig, folder: Path, *, quiet: bool) -> int:
    """Rebuild a report, or compare runs; returns the exit code."""
    if job == "compare":
        from runner.report.compare import compare_runs

        settings = Report.of(config), Compare.of(config)
        return compare_runs(
            folder / "compare.csv",
            list(config.run),
            list(config.against),
            *settings,
            quiet=quiet,
        )
    from runner.execute.progress import announced
    from runner.report.as_json import for_programs, print_run
    from runner.report.conclude import conclude

    # what was typed counts more than what the run was made with
    keys = (text.lstrip("+").partition("=")[0] for text in HydraConfig.get().overrides.task)
    typed = [key.removeprefix("report.") for key in keys if key.startswith("report.")]
    at_work = announced("putting the report together", quiet=quiet)
    with for_programs(config.output) as is_json, at_work as stop:
        code = conclude(
            folder,
            Report.of(config),
            strict=config.strict,
            measured=False,
            explicit=typed,
            quiet=quiet,
            before_printing=stop,
        )
    if is_json:
        print_run(folder, code)
    return code


def _print_versions() -> int:
    said = [f"opsweep {__version__}"]
    for name, distribution in (("PyTorch", "torch"), ("Hydra", "hydra-core")):
        try:  # without an import, which takes long
            said.append(f"{name} {version(distribution)}")
        except PackageNotFoundError:
            said.append(f"no installed {name}")
    print(", ".join(said))
    return 0


def _print_schema(output: str) -> int:
    from runner.report import column_reference

    print(column_reference.as_json() if output == JSON else column_reference.as_text())
    return 0


@lru_cache(maxsize=1)
def _task_of_this_process() -> CellTask:
    """The task of a stock launcher's process, whose jobs share a worker."""
    return CellTask(Session())


class _PastHydra(BaseException):
    """Carries an error past Hydra, which would print a line of its own for an ``Exception``."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _show(error: Exception, *, measuring: bool) -> int:
    tell(printable(_message(error, measuring=measuring)))
    return 1 if measuring else 2


def _message(error: Exception, *, measuring: bool) -> str:
    if isinstance(error, OSError) and not isinstance(error, HydraException):  # some are both
        where = error.filename or "the output folder"
        return f"cannot write {where}: {error.strerror or error}; {_advice(measuring=measuring)}"
    if isinstance(error, ConfigError | CellFailed):
        return str(error)
    if isinstance(error, HYDRAS):
        return str(error) if measuring else explained(error)
    return f"{type(error).__name__}: {one_line(error)}; HYDRA_FULL_ERROR=1 shows where it is from"


def _advice(*, measuring: bool) -> str:
    if measuring:
        return "what was finished is kept"
    if any(argument.lstrip("+").startswith(("run=", "resume=")) for argument in sys.argv[1:]):
        return "copy that run's folder to where there is room and leave to write, and give the copy"
    return "choose another with hydra.run.dir= or hydra.sweep.dir="


def _heed_signals(session: Session) -> None:
    """Have signals end the run as Ctrl-C does, but for one that is ignored, as by ``nohup``."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, session.interrupt)


def _end_interrupted() -> int:
    # where an interruption has passed through executed text, as where a dataclass is made, CPython
    # ends `python -m` by the signal, whatever is returned; executing another text takes that back
    exec("")
    tell("interrupted; what was finished is kept")
    return INTERRUPTED
