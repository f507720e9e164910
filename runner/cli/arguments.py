"""The words of the command line, with what they imply, before Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runner.errors import ConfigError

HERE = Path(__file__).parents[1]  # the package
CONF = next(path for path in (HERE / "conf", HERE.parent / "conf") if path.is_dir())  # a wheel's, or a checkout's
ASKING = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}


def with_implied(arguments: Sequence[str]) -> list[str]:
    """The arguments with what they imply: a sweep's file runs as a sweep, a report goes into its run's folder.

    Raises:
        ConfigError: the arguments contradict each other.
    """
    given = sorted(arguments, key=lambda a: a not in ("-m", "--multirun"))  # argparse wants them first or last
    values = {key.lstrip("+"): value for key, _, value in (a.partition("=") for a in given if not a.startswith("-"))}
    if "," in values.get("sweep", ""):
        raise ConfigError(f"sweep={values['sweep']}: one sweep at a time; run the command once for each")
    if ASKING & {argument.partition("=")[0] for argument in given}:
        return given
    given = [_chosen(argument) for argument in given]
    _refuse_hidden(given)
    sweeps = given[:1] in (["-m"], ["--multirun"]) or "hydra.mode" in values
    folders = {"run": ("hydra.run.dir", "environment.json"), "resume": ("hydra.sweep.dir", "multirun.yaml")}
    for key, (into, mark) in folders.items():
        wanted = key in values if key == "resume" else values.get("job") == "report" and not sweeps
        if not wanted:
            continue
        folder = values.get(key, "").strip("'\"")
        if not folder or not (Path(folder) / mark).is_file():
            if key == "resume" and (Path(folder) / "environment.json").is_file():
                raise ConfigError(
                    f"resume={folder} holds a single cell's run; only sweeps are taken up, so run it anew"
                )
            what = "run's or sweep's" if key == "run" else "sweep's"
            raise ConfigError(f"{key}={folder}: no {what} folder; give {key}=outputs/<date>/<time>")
        quoted = "'" + folder.replace("'", "\\'") + "'"  # a folder's name may hold what Hydra's grammar gives a meaning
        given = [a for a in given if a.partition("=")[0].lstrip("+") != key]
        given += [f"{key}={quoted}", f"{into}={quoted}"]
    if values.get("job") == "report" and not sweeps:
        return [*given, "hydra.output_subdir=null", "hydra/job_logging=none"]
    dry = values.get("dry_run", "").lower() in ("true", "yes", "on", "1")
    elsewhere = values.get("cluster", "null") not in ("null", "")
    if not sweeps and (dry or elsewhere or {"sweep", "resume"} & values.keys()):
        given.append("hydra.mode=MULTIRUN")
    return given


def _chosen(argument: str) -> str:
    """A choice of a group; Hydra takes no null for one, though it is our default for some, nor a number.

    Raises:
        ConfigError: what was chosen can be no file's name; of a list Hydra would take the last.
    """
    from runner.cli.hydra_errors import several_values, unknown_choice

    key, given, value = argument.partition("=")
    group = key.lstrip("+")
    if not given or not (CONF / group).is_dir() or not re.fullmatch(r"null|true|false|[\d.]+|\[.*\]", value):
        return argument
    if value == "null" and key in ("case", "cluster"):
        return f"~{key}"
    if value.startswith("["):
        raise ConfigError(several_values(f"{group}={value[1:-1]}"))
    raise ConfigError(unknown_choice(group, value, [path.stem for path in sorted((CONF / group).glob("*.yaml"))]))


def _refuse_hidden(arguments: Sequence[str]) -> None:
    """A file of the user's that one of ours hides would be ignored without a word.

    Raises:
        ConfigError: a folder given with ``--config-dir`` has a file of the same name as one of ours.
    """
    for position, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            folder = Path(value or next(iter(arguments[position + 1 :]), ""))
            for path in folder.glob("*/*.yaml"):
                name = path.relative_to(folder)
                if (CONF / name).is_file() and path.resolve() != (CONF / name).resolve():
                    raise ConfigError(f"{path} has a name that is built in, which would win; give it another name")
