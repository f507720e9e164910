"""A callable by its dotted name. What it imports is the user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from runner.errors import ConfigError, suggestion


def load_callable(dotted: str, source: str) -> Callable[..., Any]:
    """Import ``package.module.function``, or a method; ``source`` stands before an error."""
    where = f"{source} {dotted!r}"
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            holder: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and (module_name + ".").startswith(error.name + "."):
                continue
            raise ConfigError(f"{where}: importing {module_name} failed: {error}") from error
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{where}: importing {module_name} failed: {error!r}") from error
        for position, part in enumerate(parts[cut:], start=cut):
            holder = _attribute(holder, part, ".".join(parts[:position]), where)
        if not callable(holder):
            raise ConfigError(f"{where} is a {type(holder).__name__}, not a callable")
        return holder
    raise ConfigError(
        f"{where} cannot be imported; give a dotted name such as torch.matmul "
        "or package.module.function, importable from this folder or an installed package"
    )


def _attribute(holder: object, name: str, holder_name: str, where: str) -> object:
    try:
        return getattr(holder, name)
    except AttributeError as error:
        hint = suggestion(name, dir(holder))
        raise ConfigError(f"{where}: {holder_name} has no {name!r}{hint}") from error
    except ConfigError:
        raise
    except Exception as error:  # a module may compute its attributes
        raise ConfigError(f"{where}: {holder_name}.{name} failed: {error!r}") from error
