"""The user's own code that operations and cases call: what it was, and whether it still is."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
)
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from runner.config.cases import Case
from runner.config.operation import Operation, texts_in
from runner.errors import one_line
from runner.execute.environment import git_state

NAMING_CODE = ("call", "function", "reference", "prepare", "inputs_from", "gradient_of")
"""The fields of op and case files that hold dotted names, each as text, a list or a mapping."""
KNOWN_OTHERWISE = {"torch", "runner", *sys.stdlib_module_names}  # by their own versions
INSTALLED = tuple(map(Path, sysconfig.get_paths().values()))


def packages_of(definition: Operation | Case, backend_module: str | None) -> set[str]:
    """The first parts of the dotted names that a definition gives, but for torch and Python."""
    values = [getattr(definition, field, None) for field in NAMING_CODE]
    names = (text for text in texts_in([*values, backend_module]) if re.fullmatch(r"[\w.]+", text))
    return {name.partition(".")[0] for name in names} - KNOWN_OTHERWISE


def describe_code(packages: set[str]) -> dict[str, Any]:
    """What this process has imported of each package.

    By package, it is its ``version`` where it says one, its root ``folder``, by name a mark of the
    ``content``: a hash of each file below the folder that is imported, or an installed version; and
    of these files the state of ``git``, or the commit that it was installed from.
    """
    described = {}
    for package in sorted(packages & sys.modules.keys()):
        module = sys.modules[package]
        files = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        file = Path(next(filter(None, files), "")).absolute()
        folder = _folder_of(file)
        own = set() if _is_installed(file) else set(_imported(folder))
        names = sorted(path.relative_to(folder).as_posix() for path in own) or [package]
        content = {name: _mark(folder, name) for name in names}
        git = git_state(folder, names) if own else _installed_from(package)
        said = vars(module).get("__version__")
        version = one_line(said, 100) if isinstance(said, str) else _version(package, folder)
        described[package] = {
            "version": version or None,
            "folder": str(folder),
            "git": git,
            "content": content,
        }
    return described


def edited(
    code: Mapping[str, Any], packages: set[str] | None = None, *, elsewhere: bool = False
) -> list[str]:
    """The files and installed packages that are not as described, of some packages or of all.

    They are looked for where an import finds the package now, which another search path may change;
    of code that is imported ``elsewhere``, by another Python, the files where they were.
    """
    changed = []
    for package in code if packages is None else code.keys() & packages:
        described = code[package] or {}
        found = None if elsewhere else _found_now(package)
        folder = found or Path(described.get("folder") or ".")
        folder = folder if folder.is_dir() else Path.cwd()  # it may have moved with the run
        content = (described.get("content") or {}).items()
        known = [(name, mark) for name, mark in content if not elsewhere or "." in name]
        changed += [name for name, mark in known if _mark(folder, name) != mark]
    return list(dict.fromkeys(changed))


def differing(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """The files and installed packages that are not the same on two machines."""
    names = []
    for package in here.keys() & there.keys():
        other = there[package]["content"]
        names += [n for n, mark in here[package]["content"].items() if other.get(n, mark) != mark]
    return names


def _folder_of(file: Path) -> Path:
    """The folder that a package's or module's name is looked for in."""
    return (file.parent if file.name.startswith("__init__.") else file).parent


def _found_now(package: str) -> Path | None:
    """The folder in which an import would find a package, without importing it."""
    with suppress(ImportError, ValueError):
        if spec := find_spec(package):
            origin = spec.origin if spec.has_location else None
            first = next(filter(None, (origin, *(spec.submodule_search_locations or ()))), None)
            return _folder_of(Path(first).absolute()) if first else None
    return None


def _imported(folder: Path) -> Iterator[Path]:
    """The files of all imported modules below a folder, but for ours and those installed."""
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "").absolute()
        is_theirs = name.partition(".")[0] in KNOWN_OTHERWISE or name.startswith("__")
        if not is_theirs and path.is_relative_to(folder) and not _is_installed(path):
            yield from [path] if path.is_file() else []


def _is_installed(file: Path) -> bool:
    return any(file.is_relative_to(place) for place in INSTALLED if place.name)


def _mark(folder: Path, name: str) -> str:
    """A short hash of a file, or the version of an installed package; blank: there is neither."""
    with suppress(OSError):
        if (folder / name).is_file():  # and no device, which has no end
            return hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12]
    return " ".join(str(of.version) for of in _distributions(name))


def _distributions(name: str) -> list[Distribution]:
    """Those that have a package, which may have other names, as OpenCV's ``cv2``."""
    with suppress(PackageNotFoundError, ValueError):
        return [distribution(name)]
    with suppress(PackageNotFoundError):
        return list(map(distribution, sorted({*packages_distributions().get(name, ())})))
    return []


def _origin(of: Distribution) -> Mapping[str, Any]:
    """Where pip had a distribution from (PEP 610); nothing where it does not say."""
    with suppress(OSError, ValueError):
        said = json.loads(of.read_text("direct_url.json") or "{}")
        return said if isinstance(said, dict) else {}
    return {}


def _installed_from(package: str) -> dict[str, Any] | None:
    """The commit that an installed package was built from, where pip knows it."""
    for of in _distributions(package):
        vcs = _origin(of).get("vcs_info")
        if isinstance(vcs, dict) and isinstance(vcs.get("commit_id"), str):
            return {"commit": one_line(vcs["commit_id"], 100)}
    return None


def _version(package: str, folder: Path) -> str:
    """The version of what lies in a folder; blank where what is installed lies elsewhere."""
    for of in _distributions(package):
        url = urlsplit(str(_origin(of).get("url") or ""))
        places = [Path(str(of.locate_file("")))]
        places += [Path(url2pathname(url.path))] if url.scheme == "file" else []
        if any(folder.resolve().is_relative_to(place.resolve()) for place in places):
            return of.version
    return ""
