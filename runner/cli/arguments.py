"""The words of the command line, with what they imply, before Hydra reads them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from runner.cli.hydra_errors import several_values, unknown_choice
from runner.config.axes import AXES
from runner.config.hydra_internals import command_line_options
from runner.config.implementation import ALL
from runner.config.operator_database import EVERY
from runner.config.schema import JSON, OUTPUTS, READING, Config
from runner.errors import ConfigError, tell, unknown
from runner.files import CONF
from runner.rows.environment_file import read_environment

OF_A_RUN = "environment.json"  # the file that every run and sweep leaves
AB, SCHEMA = "job=ab", "schema"
VERSION = "--version"
QUIET = "--quiet"  # the one option that is not Hydra's
MULTIRUN = ("-m", "--multirun")
LISTS = {key for key, value in vars(Config()).items() if isinstance(value, list)}
LISTS |= {"hydra.sweeper.also", "hydra.searchpath"}
OF_SWEEPS = ("sweep", "resume", "zip", "cells", "workload")  # keys that make one
SHORT_INFORMATION = {"-h", "-c", "-i", "-sc"}
INFORMATION = {"--help", "--hydra-help", VERSION, "--cfg", "--info", "--shell-completion"}


@dataclass(frozen=True)
class Arguments:
    """The command line, read once."""

    # in an order that argparse takes: options with their values first, of them ``-m``
    words: tuple[str, ...]
    values: Mapping[str, str]  # of each key that is given one, without pluses and quotes untouched

    @classmethod
    def parse(cls, words: Sequence[str]) -> Arguments:
        """Read the words; ConfigError where an option is none of Hydra's.

        The last value of a key counts, as for Hydra.
        """
        options, overrides = _divided([word for word in words if word != QUIET])
        overrides = [re.sub(r"^(\+*job)=(['\"])(.*)\2$", r"\1=\3", word) for word in overrides]
        multirun = [word for word in options if word in MULTIRUN]
        others = [word for word in options if word not in MULTIRUN]
        pairs = (word.partition("=") for word in overrides)
        values = {key.lstrip("+"): value for key, _, value in pairs}
        return cls((*multirun, *others, *overrides), values)

    @property
    def asks_information(self) -> bool:
        """Whether Hydra is to print something and to run nothing."""
        flags = {word.partition("=")[0] for word in self.words}
        return not flags.isdisjoint(INFORMATION | SHORT_INFORMATION)

    @property
    def is_multirun(self) -> bool:
        """Whether ``-m`` is among the words."""
        return bool(self.words) and self.words[0] in MULTIRUN

    @property
    def names_mode(self) -> bool:
        """Whether the words themselves tell Hydra that this is a sweep, or that it is none."""
        return self.is_multirun or "hydra.mode" in self.values

    @property
    def is_sweep(self) -> bool:
        """Whether Hydra will run a sweep."""
        if self.names_mode:
            return self.is_multirun or self.values.get("hydra.mode") == "MULTIRUN"
        return self.needs_sweep and not self.only_reads

    @property
    def is_ab(self) -> bool:
        """Whether the cells are taken in two environments."""
        return f"job={self.values.get('job')}" == AB

    @property
    def only_reads(self) -> bool:
        """Whether runs are to be read: a report rebuilt, or two runs compared."""
        return self.values.get("job") in READING and not (self.names_mode and self.is_sweep)

    @property
    def is_dry_run(self) -> bool:
        """Whether only what would run is to be listed."""
        word = self.values.get("dry_run", "").strip("'\" ").lower()
        return re.fullmatch(r"true|yes|y|on|-?0*[1-9]\d*", word) is not None  # as Hydra reads it

    @property
    def runs_nothing(self) -> bool:
        """Whether nobody's code is to be run."""
        return self.asks_information or self.only_reads or self.is_dry_run

    @property
    def needs_sweep(self) -> bool:
        """Whether only a sweep can do this."""
        on_cluster = self.values.get("cluster", "null") not in ("null", "")
        of_several = self.values.get("impl") == ALL or self.is_ab
        of_several = of_several or EVERY in self.values.get("op", "")
        of_several = of_several or not self.values.keys().isdisjoint(OF_SWEEPS)
        return self.is_dry_run or on_cluster or of_several

    def folder(self, key: str, file: str) -> str:
        """The folder that a key names; blank where it names none.

        ``last`` is the newest below ``outputs/`` that has such a file.
        """
        return self._found(self.values.get(key, "").strip("'\""), file)

    def folders(self, key: str, file: str) -> list[str]:
        """The folders that a key names: one, or ``[a,b]``."""
        named = self.values.get(key, "")
        if named.startswith("["):
            several = named.strip("[]").split(",")
            return [self._found(one.strip(" '\""), file) for one in several if one.strip()]
        return [self.folder(key, file)] if named else []

    @staticmethod
    def _found(named: str, file: str) -> str:
        if named != "last" or Path(named).exists():
            return named
        return str(Arguments.newest(file) or named)

    @staticmethod
    def newest(file: str) -> Path | None:
        """The newest folder below ``outputs/`` that has such a file."""
        outputs = Path("outputs")
        found = [*outputs.glob(f"*/{file}"), *outputs.glob(f"*/*/{file}")]
        newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
        return newest.parent if newest else None


def schema_wanted(words: Sequence[str]) -> str:
    """How ``job=schema`` is to print the columns, table or json; blank where that is not asked.

    ConfigError where there is more beside it.
    """
    values = Arguments.parse(words).values
    if values.get("job") != SCHEMA:
        return ""
    if others := [word for word in words if word.partition("=")[0] not in ("job", "output")]:
        raise ConfigError(f"job={SCHEMA} prints what all columns hold; leave {others[0]} out")
    output = values.get("output", OUTPUTS[0])
    if output not in OUTPUTS:
        raise unknown(f"output={output} is unknown", output, OUTPUTS)
    return output


def with_implied(words: Sequence[str]) -> list[str]:
    """The words with what they imply; ConfigError where they contradict each other."""
    arguments = Arguments.parse(words)
    sweep = arguments.values.get("sweep", "")
    if "," in sweep:
        raise ConfigError(f"sweep={sweep}: one sweep at a time; run the command once for each")
    if "hydra" in arguments.values:
        raise ConfigError("hydra=...: give one of its keys, such as hydra.sweep.dir=...")
    _refuse_names_in_lists(arguments.values)
    if arguments.asks_information and (arguments.is_multirun or any(map(_is_several, words))):
        advice = "leave -m out and give one value of each; dry_run=true lists a sweep's cells"
        raise ConfigError(f"what Hydra shows is of one cell; {advice}")
    completed = [_chosen(word, is_sweep=arguments.is_multirun) for word in arguments.words]
    if arguments.asks_information:
        return completed
    if arguments.only_reads:
        is_report = arguments.values["job"] == "report"
        return _report(completed, arguments) if is_report else _compare(completed, arguments)
    if "against" in arguments.values and arguments.values.get("job") not in READING:
        raise ConfigError("against= goes with job=compare, which compares run= with it")
    completed = _ab(completed, arguments)
    if "resume" in arguments.values:
        completed = _resume(completed, arguments.folder("resume", "multirun.yaml"))
    else:
        if "retry" in arguments.values:
            raise ConfigError("retry= goes with resume=, whose cells it runs again")
        _refuse_unused_folder(arguments)
    _tell_of_replaced(words)
    if arguments.is_sweep and not arguments.names_mode:
        # not hydra.mode=MULTIRUN, which Hydra leaves out of account where a word is wrong
        completed.insert(0, MULTIRUN[0])
    return completed


def _tell_of_replaced(words: Sequence[str]) -> None:
    """Say which value of an axis does not count, as the last one does for Hydra."""
    counts: dict[str, str] = {}
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        earlier = counts.get(key, value)
        if key in AXES and earlier != value:
            both = f"for both write {key}={earlier},{value}"
            tell(f"{key}={earlier} does not count beside {key}={value}, which comes later; {both}")
        counts[key] = value


def _refuse_names_in_lists(keys: Iterable[str]) -> None:
    """Refuse ``zip.op=add``, of which OmegaConf says that ``op`` is no number."""
    for key in keys:
        for name in LISTS:
            if re.match(rf"~?{re.escape(name)}\.(?!\d+(\.|$))", key):
                raise ConfigError(f"{key}: {name} is a list; give it whole, {name}=[...]")


def _divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options, each followed by its value, and overrides, among which Hydra takes no options."""
    option_of = command_line_options()
    options: list[str] = []
    overrides: list[str] = []
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag not in option_of:
            advice = f"write {word.lstrip('-')}" if equals else "values are given as key=value"
            raise ConfigError(f"{word} is no option; {advice} (--hydra-help lists the options)")
        options.append(word)
        takes, allowed = option_of[flag]
        if takes == "none":
            continue
        if takes == "needed" and not (equals or rest):
            raise ConfigError(f"{word} needs a value after it")
        if not equals:
            is_next = takes == "needed" or (rest and not re.search("^-|=", rest[0]))
            value = rest.popleft() if is_next else allowed[0]
            options.append(value)
        if allowed and value and value not in allowed:
            raise unknown(f"{flag} {value} is unknown", value, allowed)
    return options, overrides


def _ab(words: Sequence[str], arguments: Arguments) -> list[str]:
    """The words with what ``job=ab`` does on two sides, which is a sweep of benchmarks."""
    given = [key for key in arguments.values if key.startswith("ab.")]
    if given and not arguments.is_ab:
        raise ConfigError(f"{given[0]}= goes with job=ab, which takes cells in two environments")
    for key in ("resume", "cluster", "hydra.mode", "hydra/sweeper", "hydra/launcher"):
        if arguments.is_ab and arguments.values.get(key, "null") not in ("null", ""):
            raise ConfigError(f"job=ab is one sweep in this process; leave {key}= out")
    return ["job=benchmark" if word.lstrip("+") == AB else word for word in words]


OF_COMPARE = (
    *("job", "run", "against", "output", "report.language", "report.same_within"),
    *("report.compare_across_nodes", "compare.slower_than", "compare.more_instructions"),
    *("compare.unclear_exit", "hydra.run.dir"),
)
"""The keys that ``job=compare`` heeds, beside Hydra's own."""
LEAVING_NOTHING = ("hydra.output_subdir=null", "hydra/job_logging=none")


def _report(words: Sequence[str], arguments: Arguments) -> list[str]:
    """The words for ``job=report``, which goes into its run's folder and leaves nothing there."""
    folder = arguments.folder("run", OF_A_RUN)
    _check_is_run("run", folder)
    return [*_into(folder, words, "run", "hydra.run.dir"), *LEAVING_NOTHING]


def _compare(words: Sequence[str], arguments: Arguments) -> list[str]:
    """The words for ``job=compare``, which leaves its tables in a folder of its own."""
    others = list(words)
    for key in arguments.values:
        is_hydras = key.startswith("hydra") and not key.startswith("hydra.sweep")
        if key not in OF_COMPARE and not is_hydras:
            raise unknown(f"job=compare reads two runs and takes no {key}=", key, OF_COMPARE)
    if arguments.values.get("output") == JSON:
        raise ConfigError("output=json: job=compare leaves its table in compare.csv; leave it out")
    for key in ("run", "against"):
        folders = arguments.folders(key, OF_A_RUN)
        for folder in folders or [""]:
            if "," in folder and not Path(folder).exists():
                raise ConfigError(f"{key}={folder}: give several runs as {key}=[{folder}]")
            _check_is_run(key, folder)
        others = [word for word in others if word.partition("=")[0].lstrip("+") != key]
        others.append(f"{key}=[{','.join(map(_quoted, folders))}]")
    return [*others, *LEAVING_NOTHING]


def _check_is_run(key: str, folder: str) -> None:
    if not folder or not (Path(folder) / OF_A_RUN).is_file():
        advice = f"no run's or sweep's folder; give {key}=outputs/<date>/<time>"
        raise ConfigError(f"{key}={folder}: {advice}")


def _resume(words: Sequence[str], folder: str) -> list[str]:
    made_with: dict[str, Any] = {}
    with suppress(ConfigError, OSError):  # a damaged file is refused where all of it is read
        made_with = read_environment(Path(folder)) if folder else {}
    if made_with.get("side"):
        what = "holds a side of job=ab, whose rows are of an environment of its own"
        raise ConfigError(f"resume={folder} {what}; run job=ab again")
    if folder and (Path(folder) / "multirun.yaml").is_file():
        return _into(folder, words, "resume", "hydra.sweep.dir")
    if (Path(folder) / "environment.json").is_file():
        advice = "only sweeps are taken up, so run it again"
        raise ConfigError(f"resume={folder} holds a single cell's run; {advice}")
    if folder == "last":  # there is no such sweep, or it would have been found
        raise ConfigError(_no_last_sweep())
    raise ConfigError(f"resume={folder}: no sweep's folder; give resume=outputs/<date>/<time>")


def _no_last_sweep() -> str:
    """Why ``resume=last`` finds nothing: there are runs of single cells alone, or there is none."""
    newest = Arguments.newest(OF_A_RUN)
    if newest is None:
        return "resume=last: there is no sweep below outputs/ here; give resume=<a sweep's folder>"
    only = f"{newest} is a single cell's run, and there is no sweep below outputs/ here"
    return f"resume=last: {only}; only sweeps are taken up, so run it again"


def _into(folder: str, words: Sequence[str], key: str, hydra_key: str) -> list[str]:
    """The words with a folder for both keys, quoted: it may hold what means something to Hydra."""
    others = [word for word in words if word.partition("=")[0].lstrip("+") != key]
    for name, _, given in (word.partition("=") for word in others):
        is_another = Path(given.strip("'\"")).absolute() != Path(folder).absolute()
        if name == hydra_key and is_another and "${" not in given:
            raise ConfigError(f"{name}={given}: {key}={folder} says where; leave it out")
    quoted = _quoted(folder)
    if "${" in folder:  # Hydra writes it down as it is, and reads it as one of its own values
        raise ConfigError(f"{key}={folder}: ${{ in a folder's name means a value; rename it")
    return [*others, f"{key}={quoted}", f"{hydra_key}={quoted}"]


def _quoted(folder: str) -> str:
    return "'" + folder.replace("'", "\\'").replace("${", "\\${") + "'"


def _is_several(word: str) -> bool:
    """Whether a word gives a key several values, or a group several files."""
    key, equals, value = word.partition("=")
    if not equals or key.startswith("-"):
        return False
    is_listed = value.startswith("[") and (CONF / key.lstrip("+")).is_dir()
    return is_listed or OverridesParser.create().parse_override(word).is_sweep_override()


def _chosen(word: str, *, is_sweep: bool) -> str:
    """A choice of a group as Hydra takes it; ConfigError where it can be no file's name."""
    key, equals, value = word.partition("=")
    group = key.lstrip("+")
    if not equals or not (CONF / group).is_dir():
        return word
    if group == "workload" and "," in value:  # of which a sweep has all at once
        return f"{key}=[{value.strip('[]')}]"
    if value.lower() == "null" and key in ("case", "cluster", "workload"):
        return f"~{key}"
    if re.fullmatch(r"\[.*\]", value):
        several = f"{group}={value[1:-1]}"
        raise ConfigError(f"{word}: write {several}" if is_sweep else several_values(several))
    for name in value.split(","):
        if not _is_text(name):
            options = [path.stem for path in sorted((CONF / group).glob("*.yaml"))]
            problem = unknown_choice(group, name.strip(), options)
            if name.strip():  # which Hydra reads as a number, a truth value or null
                problem += f"; a file of your own of that name is \"{key}='{name.strip()}'\""
            raise ConfigError(problem)
    return word


def _is_text(value: str) -> bool:
    """Whether Hydra reads a value as text, and not as a number such as nan, or as null."""
    try:
        read = OverridesParser.create().parse_override(f"value={value}").value()
    except HydraException:  # of which more is said where Hydra reads the whole
        return True
    return read is not None and not isinstance(read, int | float)


def _refuse_unused_folder(arguments: Arguments) -> None:
    """Refuse the folder of a sweep where a single cell runs, and the other way round."""
    used, unused = ("sweep", "run") if arguments.is_sweep else ("run", "sweep")
    given = [key for key in arguments.values if key.startswith(f"hydra.{unused}.")]
    if given and f"hydra.{used}.dir" not in arguments.values and "dry_run" not in arguments.values:
        these = {"run": "a single cell", "sweep": "a sweep, which needs -m"}
        said = f"{given[0]}={arguments.values[given[0]]} is for {these[unused]}"
        raise ConfigError(f"{said}; give hydra.{used}.dir= here")
