"""The words of the command line, with what they imply, before Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConfigError

PACKAGE = Path(__file__).parents[1]
CONF = next(
    path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()
)  # a wheel's, or a checkout's
MULTIRUN = ("-m", "--multirun")
INFORMATION = {
    "-h",
    "--help",
    "--hydra-help",
    "--version",
    "-c",
    "--cfg",
    "-i",
    "--info",
    "-sc",
    "--shell-completion",
}


@dataclass(frozen=True)
class Arguments:
    """The command line, read once.

    Attributes:
        words: in an order that argparse takes.
        values: of each key that is given one, without pluses and quotes untouched.
    """

    words: tuple[str, ...]
    values: Mapping[str, str]

    @classmethod
    def parse(cls, words: Sequence[str]) -> Arguments:
        """Read the words; the last value of a key counts, as for Hydra."""
        ordered = sorted(
            words, key=lambda word: word not in MULTIRUN
        )  # argparse wants flags first or last
        pairs = (word.partition("=") for word in ordered if not word.startswith("-"))
        return cls(tuple(ordered), {key.lstrip("+"): value for key, _, value in pairs})

    @property
    def asks_information(self) -> bool:
        """Whether Hydra is to print something and to run nothing."""
        return not INFORMATION.isdisjoint(word.partition("=")[0] for word in self.words)

    @property
    def names_mode(self) -> bool:
        """Whether the words themselves tell Hydra that this is a sweep, or that it is none."""
        return (bool(self.words) and self.words[0] in MULTIRUN) or "hydra.mode" in self.values

    @property
    def is_report(self) -> bool:
        """Whether a run's report is to be rebuilt."""
        return self.values.get("job") == "report" and not self.names_mode

    @property
    def needs_sweep(self) -> bool:
        """Whether only a sweep can do this."""
        dry_run = self.values.get("dry_run", "").lower() in ("true", "yes", "on", "1")
        on_cluster = self.values.get("cluster", "null") not in ("null", "")
        return dry_run or on_cluster or "sweep" in self.values or "resume" in self.values


def with_implied(words: Sequence[str]) -> list[str]:
    """The words with what they imply: a sweep's file runs as a sweep, a report goes into its run's folder.

    Raises:
        ConfigError: the words contradict each other.
    """
    arguments = Arguments.parse(words)
    sweep = arguments.values.get("sweep", "")
    if "," in sweep:
        raise ConfigError(f"sweep={sweep}: one sweep at a time; run the command once for each")
    if arguments.asks_information:
        return list(arguments.words)
    completed = [_chosen(word) for word in arguments.words]
    _refuse_hidden(completed)
    if arguments.is_report:
        completed = report_arguments(completed, arguments)
    if "resume" in arguments.values:
        completed = resume_arguments(completed, arguments)
    if arguments.needs_sweep and not arguments.is_report and not arguments.names_mode:
        completed.append("hydra.mode=MULTIRUN")
    return completed


def report_arguments(words: Sequence[str], arguments: Arguments) -> list[str]:
    """The words for ``job=report``, which goes into its run's folder and leaves nothing of its own there.

    Raises:
        ConfigError: there is no such run.
    """
    folder = _folder(arguments, "run")
    if not folder or not (Path(folder) / "environment.json").is_file():
        raise ConfigError(
            f"run={folder}: no run's or sweep's folder; give run=outputs/<date>/<time>"
        )
    return [
        *_into(folder, words, "run", "hydra.run.dir"),
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
    ]


def resume_arguments(words: Sequence[str], arguments: Arguments) -> list[str]:
    """The words for ``resume=``, which goes into the sweep's folder.

    Raises:
        ConfigError: there is no such sweep.
    """
    folder = _folder(arguments, "resume")
    if not folder or not (Path(folder) / "multirun.yaml").is_file():
        if (Path(folder) / "environment.json").is_file():
            raise ConfigError(
                f"resume={folder} holds a single cell's run; only sweeps are taken up, so run it again"
            )
        raise ConfigError(f"resume={folder}: no sweep's folder; give resume=outputs/<date>/<time>")
    return _into(folder, words, "resume", "hydra.sweep.dir")


def _folder(arguments: Arguments, key: str) -> str:
    return arguments.values.get(key, "").strip("'\"")


def _into(folder: str, words: Sequence[str], key: str, hydra_key: str) -> list[str]:
    """The words with a folder for both keys."""
    others = [word for word in words if word.partition("=")[0].lstrip("+") != key]
    quoted = (
        "'" + folder.replace("'", "\\'") + "'"
    )  # a folder's name may hold what Hydra's grammar gives a meaning
    return [*others, f"{key}={quoted}", f"{hydra_key}={quoted}"]


def _chosen(word: str) -> str:
    """A choice of a group; Hydra takes no null for one, though it is our default for some, nor a number.

    Raises:
        ConfigError: what was chosen can be no file's name; of a list Hydra would take the last.
    """
    from runner.cli.hydra_errors import several_values, unknown_choice

    key, equals, value = word.partition("=")
    group = key.lstrip("+")
    is_choice = bool(equals) and (CONF / group).is_dir()
    if not is_choice or not re.fullmatch(r"null|true|false|[\d.]+|\[.*\]", value):
        return word
    if value == "null" and key in ("case", "cluster"):
        return f"~{key}"
    if value.startswith("["):
        raise ConfigError(several_values(f"{group}={value[1:-1]}"))
    raise ConfigError(
        unknown_choice(group, value, [path.stem for path in sorted((CONF / group).glob("*.yaml"))])
    )


def _refuse_hidden(words: Sequence[str]) -> None:
    """Reject user files shadowed by built-in ones; Hydra would ignore them silently.

    Raises:
        ConfigError: a folder given with ``--config-dir`` has a file of the same name as one of ours.
    """
    for position, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag not in ("--config-dir", "-cd"):
            continue
        folder = Path(value or next(iter(words[position + 1 :]), ""))
        for path in folder.glob("*/*.yaml"):
            built_in = CONF / path.relative_to(folder)
            if built_in.is_file() and path.resolve() != built_in.resolve():
                raise ConfigError(
                    f"{path} has a name that is built in, which would win; give it another name"
                )
