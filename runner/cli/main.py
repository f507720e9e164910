"""The command line in, an exit code out. Neither torch nor pandas is imported in this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import hydra
import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.plugin import Plugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner import __version__
from runner.cells.hydra_files import folder_name
from runner.cli import standard_streams as streams
from runner.cli.arguments import QUIET, VERSION, Arguments, schema_wanted, with_implied
from runner.cli.help import register
from runner.cli.hydra_errors import explained
from runner.config.hydra_internals import (
    check_config_files,
    compose_once,
    have_plugins_been_sought,
    heed_code_in_files,
    list_groups_without_copying,
    run_within,
    sweep_by,
)
from runner.config.schema import JSON
from runner.errors import CellFailed, ConfigError, one_line, printable, tell
from runner.execute.session import Session
from runner.files import CONF, PACKAGE

if TYPE_CHECKING:  # a typing error needs none of it
    from runner.cli.cell_jobs import CellJobs
    from runner.rows.rows import Row

INTERRUPTED = 130
HYDRAS = (HydraException, OmegaConfBaseException, yaml.YAMLError)


register()
# a job's overrides as part of a folder's name
OmegaConf.register_new_resolver("folder_name", lambda text: folder_name(str(text)), replace=True)


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
        session.is_ab = Arguments.parse(arguments).is_ab
        session.quiet = QUIET in arguments
        list_groups_without_copying()
        compose_once()
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
    """Hydra's task function: one cell of a sweep, one cell alone, or a report.

    What makes cells is imported with the first of them: ``--help`` and a typing error need none.
    """

    def __init__(self, session: Session) -> None:
        self.session = session  # also for our sweeper and launcher, which get this function

    @cached_property
    def _jobs(self) -> CellJobs:
        from runner.cli.cell_jobs import CellJobs

        return CellJobs(self.session)

    def __call__(self, config: DictConfig) -> list[Row] | float:
        """Run what a composed configuration says; returns the cell's rows, or its objective."""
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return self._jobs.run_for_launcher(config)
        try:
            return self._jobs.run(config)
        except (ConfigError, OSError) as error:
            raise _PastHydra(error) from error

    def prepared(self, config: DictConfig) -> AbstractContextManager[None]:
        """What a cell that is no sweep's runs within, see :meth:`CellJobs.prepared`."""
        return self._jobs.prepared(config)

    def swept(self, sweeper: Sweeper, loader: ConfigLoader, config: DictConfig) -> object:
        """What is to sweep, given the sweeper that was chosen, see :meth:`CellJobs.swept`."""
        return self._jobs.swept(sweeper, loader, config)

    def __reduce__(self) -> tuple[Callable[[], CellTask], tuple[()]]:
        """Give a stock launcher's other processes sessions: a worker belongs to its parent."""
        return _task_of_this_process, ()


def _print_versions() -> int:
    from importlib.metadata import PackageNotFoundError, version

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
