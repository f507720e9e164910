"""Hydra's and OmegaConf's errors, each in one line: what came, what is allowed and what to do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException

from runner.config.keys import HELP_LISTS, is_baseline, unknown_key
from runner.config.renamed import refusal
from runner.config.schema import OF_THE_SWEEP, ONE_AXIS, PAIRS
from runner.config.size import ALLOWED
from runner.errors import closest, one_line

SHOWN = 3  # options, of a group that has many
MANY = 16
PARAMS = "hydra.sweeper.params."
TYPES = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
OTHER_NAMES = {"mm": "matmul", "sdpa": "scaled_dot_product_attention"}  # of ops, in PyTorch
# lines for programmers
DETAILS = re.compile(r"^( +(full_key|reference_type|object_type)[:=].*|See https.*|)$")


def explained(error: Exception) -> str:
    """What to print for an error of the command line or of a file that it names."""
    if isinstance(error, yaml.YAMLError):
        return f"not YAML: {one_line(error)}; correct the file"
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    text = str(error)
    if error.__cause__ is not None:
        text += f"\n{error.__cause__}"
    if isinstance(error, HydraException):
        if message := _unknown(text):
            return message
        for pattern, message_of in EXPLAINED:
            if match := re.match(pattern, text):
                return message_of(*match.groups())
    kept = (line for line in text.splitlines() if not DETAILS.match(line))
    return one_line(" ".join(kept), limit=600)


def unknown_choice(key: str, value: str, options: Sequence[str]) -> str:
    """Say that a group has no such file, with the one that was perhaps meant."""
    listed = ", ".join(options)
    if len(options) > MANY:
        listed = f"{', '.join(options[:SHOWN])}, ...: {HELP_LISTS} them"
    problem = f"{key}={value} is {'unknown' if value else 'empty'}"
    near = OTHER_NAMES[value] if key == "op" and value in OTHER_NAMES else closest(value, options)
    advice = f"did you mean {near}? ({listed})" if near else f"choose one of {listed}"
    return f"{problem}; {advice}"


def _own(value: str) -> str:
    """How an operation of one's own is added, or a function of one's own beside an operation."""
    name = value.rpartition(".")[2]
    if "." in value:
        command = f"op=softmax +op.implementations.{name}={value} impl=all"
        return f"; for a function of your own write {command}, with the op that it computes"
    return f"; or add mine/op/{name}.yaml and --config-dir mine"


def several_values(override: str) -> str:
    """Say what makes a sweep of several values, or that this key has one for all cells."""
    key = override.lstrip("+").partition("=")[0]
    if key.startswith("hydra."):
        return _of_hydra(override)
    if key in OF_THE_SWEEP:
        return f"{override}: {key} is of the whole sweep; give one value"
    command = f"python -m runner -m {shlex.quote(override)}"
    return f"{override} has several values, which need -m: {command}"


def _of_hydra(override: str) -> str:
    key, _, values = override.lstrip("+").partition("=")
    if key.startswith(PARAMS):
        own = f"{key.removeprefix(PARAMS)}={values}"
        return f"{override}: write {own}, which counts more than a sweep's file"
    return f"{override}: {key} is the same for all cells; give one"


def _missing(error: MissingConfigException) -> str:
    text = str(error)
    if primary := re.match(r"Cannot find primary config '(.*?)'", text):
        return _no_primary(primary[1])
    if text.startswith("Primary config "):  # its directory, or its module
        return _no_primary("config")
    pattern = r"(?:In '(.*?)': )?Could not find '(.*?)'\s+Available options in '(.*?)'"
    match = re.match(pattern, text)
    if match is None:
        return one_line(text.partition("Config search path:")[0])
    file, missing, group = match.groups()
    where = "" if file in (None, "config", "hydra/config") else f"in {file}.yaml: "
    choice = missing.removeprefix(f"{group}/")
    own = _own(choice) if group == "op" and choice else ""
    return where + unknown_choice(group, choice, list(error.options or ())) + own


def _no_primary(name: str) -> str:
    """Say that the file is not there with which all begins, which need not be named."""
    if name == "config":  # as it is called where it belongs
        return "--config-path: no config.yaml is there; files of your own are added by --config-dir"
    advice = f"leave it out, or choose a sweep's file with +sweep={Path(name).stem}"
    return f"--config-name={name}: there is no such file; {advice}"


def _unreadable(override: str) -> str:
    key, has_value, _ = override.partition("=")
    if not has_value:
        return f"{override} cannot be read: write key=value, such as op=add ({HELP_LISTS} the keys)"
    if re.search(r"[=,]\s*,|,\s*$", override):
        return f"{override} cannot be read: there is a comma with nothing beside it; drop it"
    if key.lstrip("+") == "size":
        return f"{override} cannot be read as a size; {ALLOWED}"
    if is_baseline(key.lstrip("+")):
        return f"{override} cannot be read; give {ONE_AXIS}"
    advice = f"put quotes within quotes around a value with other signs: \"{key}='...'\""
    return f"{override} cannot be read; {advice}"


def _unknown(text: str) -> str:
    # The dotted key stands in the cause, where Hydra has one; its own first line may name less.
    match = re.search(r"^Key '.*?' (?:is )?not in .*\n +full_key: (\S+)", text, re.MULTILINE)
    match = match or re.match(r"Could not (?:override|delete from config\.) '(.*?)'", text)
    key = match[1] if match else ""
    if not key or "@" in key:
        return ""
    if key.startswith("hydra.") and not refusal(key, "key"):  # of Hydra's own keys Hydra knows more
        return ""
    if key.startswith(("op.", "case.")) and "\nTo append" in text:
        group = key.partition(".")[0]
        return f"{key} is not in the file of the {group}; to add it write +{key}=..."
    file = re.match(r"In '(.*?)': ", text)
    where = f"in {file[1]}.yaml: " if file else ""
    return where + unknown_key(key)


def _wrong_type(override: str, number: str | None, truth: str) -> str:
    advice = "; null, or leaving it out, means all cores" if override.startswith("threads=") else ""
    return f"{override} is not {TYPES[number or truth]}{advice}"


def _wrong_file(file: str, problem: str) -> str:
    return f"{file}.yaml: {one_line(problem)}; correct the file"


NO_LIST = "(?:.*ListConfig|Cannot merge incompatible container types)"  # of OmegaConf 2.3, of 2.4
WRONG_VALUE = r"Error merging override (\S+?)=(.*)\n.*"
WRONG_FILE = r"In '(.*?)': \w+ raised while composing config:\n"
EXPLAINED: tuple[tuple[str, Callable[..., str]], ...] = (
    (
        r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: requires --multirun|\n)",
        several_values,
    ),
    (
        r"Multiple values for (\S+)\. To override a value use 'override \S+: (.*)'",
        "{0} is chosen already; write {0}={1} without a plus".format,
    ),
    (
        r"Error merging override \+*(.*)\n(?s:.*?)(?:converted to (Integer|Float)|valid (bool))",
        _wrong_type,
    ),
    (
        WRONG_FILE + NO_LIST,
        "{0}.yaml: holds a list where keys with values belong; correct the file".format,
    ),
    (WRONG_FILE + "(.*)", _wrong_file),
    (
        # the lists of a zip, as Python's takes them; brackets around these would not make pairs
        rf"Error merging override zip=(\{{.*\[.*)\n{NO_LIST}",
        lambda lists: f"zip={lists} is no list of cells; write an entry for each, as in {PAIRS}",
    ),
    (
        r"Error merging override (\S+?)\.(\d+\S*?)=.*\n.*list index out of range",
        "{0}.{1}: {0} is a list that has no such entry; give it whole, {0}=[...]".format,
    ),
    (
        rf"Error merging override (\S+?)=(\[.*)\n{NO_LIST}",
        "{0}={1}: {0} has keys of its own, which --help lists; write {0}.<key>=...".format,
    ),
    (WRONG_VALUE + NO_LIST, "{0}={1} is no list; write {0}=[{1}]".format),
    (
        WRONG_VALUE + "is not a subclass of",
        "{0}={1}: {0} has keys of its own, which --help lists; write {0}.<key>={1}".format,
    ),
    (WRONG_VALUE + "is not Optional", "{0}={1}: {0} has to have a value; leave it out".format),
    (r"Sweeping over Hydra's.*'(\S+?=.*)'", _of_hydra),
    (
        r"Could not override '.*\s*To append to your config use \+(hydra.sweeper.params.*)",
        _of_hydra,
    ),
)
"""Errors of Hydra's, by how they begin, and what to say of what they name."""
