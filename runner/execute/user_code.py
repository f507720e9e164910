"""The code that operations and cases call, which is the user's: what it was, and whether it is.

Nothing here imports it: that is the worker's, which describes what it has imported.
"""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from runner.config.cases import Case
from runner.config.operation import Operation
from runner.execute.environment import git_state

NAMING_CODE = ("call", "function", "reference", "implementations", "prepare", "inputs_from")
"""The fields of op and case files that hold dotted names, each as text, a list or a mapping."""
KNOWN_OTHERWISE = {"torch", "runner", *sys.stdlib_module_names}  # by versions
INSTALLED = [Path(path) for path in set(sysconfig.get_paths().values()) if Path(path) != Path("/")]


def packages_of(definition: Operation | Case, backend_module: str | None) -> set[str]:
    """The first parts of the dotted names that a definition gives, but for torch and Python."""
    values = [getattr(definition, field, None) for field in NAMING_CODE]
    texts = chain(*map(_texts, values), [backend_module or ""])
    names = (text for text in texts if re.fullmatch(r"\w+(\.\w+)*", text))
    return {name.partition(".")[0] for name in names} - KNOWN_OTHERWISE


def describe_code(packages: Iterable[str]) -> dict[str, Any]:
    """What has been imported of each package: its version, or the files below its root folder.

    Returns:
        by package, the ``folder`` that it was found in, its ``version`` where it is installed, or
        else ``git``, and a hash of each of the ``files`` below that folder that are imported.
    """
    described: dict[str, dict[str, Any]] = {}
    for package in sorted(packages & sys.modules.keys()):
        module = sys.modules[package]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        place = Path(next(filter(None, places), "")).absolute()
        folder = (place.parent if place.name.startswith("__init__.") else place).parent
        if any(place.is_relative_to(path) for path in INSTALLED):
            described[package] = {"folder": str(folder), "version": _version_of(package)}
            continue
        files = {path.relative_to(folder).as_posix(): _hash(path) for path in _imported(folder)}
        described[package] = {"folder": str(folder), "git": git_state(folder), "files": files}
    return described


def edited(code: Mapping[str, Any], packages: Iterable[str] | None = None) -> list[str]:
    """The files and versions that are not as described, of some packages or of all."""
    changed = []
    for package in code if packages is None else code.keys() & packages:
        facts = code[package]
        if "files" not in facts:
            if facts["version"] != _version_of(package):
                changed.append(f"{package} {facts['version']}")
            continue
        folder = Path(facts["folder"])
        here = folder if folder.is_dir() else Path.cwd()  # they may have moved with the run
        changed += [name for name, hashed in facts["files"].items() if _hash(here / name) != hashed]
    return list(dict.fromkeys(changed))


def differing(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """The files and versions of packages that are not the same on two machines."""
    names = []
    for package in here.keys() & there.keys():
        one, other = here[package], there[package]
        if one.get("version") != other.get("version"):
            names.append(f"{package} {one.get('version')}")
        files = one.get("files", {}).items(), other.get("files", {})
        names += [name for name, hashed in files[0] if files[1].get(name, hashed) != hashed]
    return names


def _imported(folder: Path) -> Iterator[Path]:
    """The files of all imported modules below a folder, but for ours and those installed."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.partition(".")[0] not in KNOWN_OTHERWISE and not name.startswith("__"):
            path = Path(file).absolute()
            installed = any(path.is_relative_to(place) for place in INSTALLED)
            if path.is_relative_to(folder) and not installed and path.is_file():
                yield path


def _hash(path: Path) -> str:
    """A short hash of a file's content; blank where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError:
        return ""


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _texts(value: object) -> Iterator[str]:
    """Every string in a field."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from chain(*map(_texts, value.values()))
    elif isinstance(value, Iterable):
        yield from chain(*map(_texts, value))
