"""The words of the command line, with what they imply, before Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.cli.hydra_errors import several_values, unknown_choice
from runner.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "conf", PACKAGE.parent / "conf")  # a wheel's, and a checkout's
CONF = next(filter(Path.is_dir, FOLDERS))
MULTIRUN = ("-m", "--multirun")
SHORT_INFORMATION = {"-h", "-c", "-i", "-sc"}
INFORMATION = {"--help", "--hydra-help", "--version", "--cfg", "--info", "--shell-completion"}


@dataclass(frozen=True)
class Arguments:
    """The command line, read once.

    Attributes:
        words: in an order that argparse takes: flags first.
        values: of each key that is given one, without pluses and quotes untouched.
    """

    words: tuple[str, ...]
    values: Mapping[str, str]

    @classmethod
    def parse(cls, words: Sequence[str]) -> Arguments:
        """Read the words; the last value of a key counts, as for Hydra."""
        ordered = sorted(words, key=lambda word: word not in MULTIRUN)
        pairs = (word.partition("=") for word in ordered if not word.startswith("-"))
        return cls(tuple(ordered), {key.lstrip("+"): value for key, _, value in pairs})

    @property
    def asks_information(self) -> bool:
        """Whether Hydra is to print something and to run nothing."""
        flags = {word.partition("=")[0] for word in self.words}
        return not flags.isdisjoint(INFORMATION | SHORT_INFORMATION)

    @property
    def names_mode(self) -> bool:
        """Whether the words themselves tell Hydra that this is a sweep, or that it is none."""
        return (bool(self.words) and self.words[0] in MULTIRUN) or "hydra.mode" in self.values

    @property
    def is_report(self) -> bool:
        """Whether a run's report is to be rebuilt."""
        return self.values.get("job") == "report" and not self.names_mode

    @property
    def is_dry_run(self) -> bool:
        """Whether only what would run is to be listed."""
        return self.values.get("dry_run", "").lower() in ("true", "yes", "on", "1")

    @property
    def runs_nothing(self) -> bool:
        """Whether nobody's code is to be run."""
        return self.asks_information or self.is_report or self.is_dry_run

    @property
    def needs_sweep(self) -> bool:
        """Whether only a sweep can do this."""
        on_cluster = self.values.get("cluster", "null") not in ("null", "")
        return self.is_dry_run or on_cluster or "sweep" in self.values or "resume" in self.values

    def folder(self, key: str) -> str:
        """The folder that a key names; blank where it names none."""
        return self.values.get(key, "").strip("'\"")


def with_implied(words: Sequence[str]) -> list[str]:
    """The words with what they imply; ConfigError where they contradict each other."""
    arguments = Arguments.parse(words)
    sweep = arguments.values.get("sweep", "")
    if "," in sweep:
        raise ConfigError(f"sweep={sweep}: one sweep at a time; run the command once for each")
    if "hydra" in arguments.values:
        raise ConfigError("hydra=...: give one of its keys, such as hydra.sweep.dir=...")
    if arguments.asks_information:
        return list(arguments.words)
    completed = [_chosen(word) for word in arguments.words]
    _refuse_hidden(completed)
    if arguments.is_report:
        completed = _report(completed, arguments.folder("run"))
    if "resume" in arguments.values:
        completed = _resume(completed, arguments.folder("resume"))
    if arguments.needs_sweep and not arguments.is_report and not arguments.names_mode:
        completed.append("hydra.mode=MULTIRUN")
    return completed


def _report(words: Sequence[str], folder: str) -> list[str]:
    """The words for ``job=report``, which goes into its run's folder and leaves nothing there."""
    if not folder or not (Path(folder) / "environment.json").is_file():
        advice = "no run's or sweep's folder; give run=outputs/<date>/<time>"
        raise ConfigError(f"run={folder}: {advice}")
    leaving_nothing = ("hydra.output_subdir=null", "hydra/job_logging=none")
    return [*_into(folder, words, "run", "hydra.run.dir"), *leaving_nothing]


def _resume(words: Sequence[str], folder: str) -> list[str]:
    """The words for ``resume=``, which goes into the sweep's folder."""
    if folder and (Path(folder) / "multirun.yaml").is_file():
        return _into(folder, words, "resume", "hydra.sweep.dir")
    if (Path(folder) / "environment.json").is_file():
        advice = "only sweeps are taken up, so run it again"
        raise ConfigError(f"resume={folder} holds a single cell's run; {advice}")
    raise ConfigError(f"resume={folder}: no sweep's folder; give resume=outputs/<date>/<time>")


def _into(folder: str, words: Sequence[str], key: str, hydra_key: str) -> list[str]:
    """The words with a folder for both keys, quoted: it may hold what means something to Hydra."""
    others = [word for word in words if word.partition("=")[0].lstrip("+") != key]
    quoted = "'" + folder.replace("'", "\\'").replace("${", "\\${") + "'"
    return [*others, f"{key}={quoted}", f"{hydra_key}={quoted}"]


def _chosen(word: str) -> str:
    """A choice of a group as Hydra takes it; ConfigError where it can be no file's name."""
    key, equals, value = word.partition("=")
    group = key.lstrip("+")
    is_choice = bool(equals) and (CONF / group).is_dir()
    if not is_choice or not re.fullmatch(r"null|true|false|[\d.]+|\[.*\]", value):
        return word
    if value == "null" and key in ("case", "cluster"):
        return f"~{key}"
    if value.startswith("["):
        raise ConfigError(several_values(f"{group}={value[1:-1]}"))
    options = [path.stem for path in sorted((CONF / group).glob("*.yaml"))]
    raise ConfigError(unknown_choice(group, value, options))


def _refuse_hidden(words: Sequence[str]) -> None:
    """Refuse files of ``--config-dir`` that have the name of one of ours: Hydra ignores them."""
    for position, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag not in ("--config-dir", "-cd"):
            continue
        folder = Path(value or next(iter(words[position + 1 :]), ""))
        for path in folder.glob("*/*.yaml"):
            built_in = CONF / path.relative_to(folder)
            if built_in.is_file() and path.resolve() != built_in.resolve():
                advice = "give it another name"
                raise ConfigError(f"{path} has a name that is built in, which would win; {advice}")
