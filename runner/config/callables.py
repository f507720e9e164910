"""A callable by its dotted name. What it imports is the user's; the worker calls it, and nothing here imports torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from runner.errors import ConfigError, suggestion


def load_callable(dotted: str, source: str) -> Callable[..., Any]:
    """Import a callable.

    Args:
        dotted: ``package.module.function``, or a class's method.
        source: where the name comes from, for messages.

    Raises:
        ConfigError: there is no such module or attribute, or it cannot be called.
    """
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and (module_name + ".").startswith(error.name + "."):
                continue
            raise ConfigError(
                f"{source} {dotted!r}: importing {module_name} failed: {error}"
            ) from error
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"{source} {dotted!r}: importing {module_name} failed: {error!r}"
            ) from error
        for part in parts[cut:]:
            found, module_name = (
                _attribute(found, part, module_name, f"{source} {dotted!r}"),
                f"{module_name}.{part}",
            )
        if not callable(found):
            raise ConfigError(f"{source} {dotted!r} is a {type(found).__name__}, not a callable")
        return found  # type: ignore[no-any-return]  # whatever the user names, checked to be callable
    raise ConfigError(
        f"{source} {dotted!r} cannot be imported; give a dotted name such as torch.matmul "
        "or package.module.function, importable from this folder or an installed package"
    )


def _attribute(found: Any, part: str, of: str, source: str) -> Any:
    try:
        return getattr(found, part)
    except AttributeError as error:
        hint = suggestion(part, dir(found))
        raise ConfigError(f"{source}: {of} has no {part!r}{hint}") from error
    except Exception as error:  # a module may compute its attributes
        raise ConfigError(f"{source}: {of}.{part} failed: {error!r}") from error
