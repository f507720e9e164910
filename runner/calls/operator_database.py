"""PyTorch's own operators, and samples of their arguments, from the database of its tests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, reduce
from importlib import import_module
from itertools import islice
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from runner.config.operator_database import DATABASE, EXTRA, OPERATORS, PREFIX
from runner.config.signature import NUMBER
from runner.errors import ConfigError, suggestion


class DatabaseOperator:
    """An operator, called as it is."""

    def __init__(self, info: Any) -> None:
        self._info, self.name = info, info.formatted_name
        self.__name__ = getattr(info.op, "__name__", self.name)  # by which as_verified knows it

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Call it."""
        return self._info.op(*args, **kwargs)

    @property
    def as_verified(self) -> Callable[..., Any]:
        """What calls a function where its gradient is defined: on a symmetric matrix, say."""
        wrapper: Callable[..., Any] = self._info.gradcheck_wrapper
        return wrapper

    @property
    def dotted(self) -> str:
        """What it is called in torch; where it is made by the database, its place there."""
        name = self._info.name
        with suppress(AttributeError):
            if reduce(getattr, name.split("."), torch) is self._info.op:
                return f"torch.{name}"
        return f"{OPERATORS}.{self.name}"

    def sample(
        self,
        dimensions: Mapping[str, int],
        dtype: torch.dtype,
        device: torch.device,
        generator: torch.Generator,
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a sample with elements, numbered from 1 in the database's order.

        NotImplementedError where it has not so many, or none in the dtype.
        """
        name, number = f"{PREFIX}{self.name}", dimensions[NUMBER]
        dtypes = self._info.supported_dtypes(device.type)
        if dtype not in dtypes:
            names = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
            takes = f"{name} takes {names or 'no dtype'} on {device.type}"
            raise NotImplementedError(f"{takes}, not {str(dtype).removeprefix('torch.')}")
        has_gradient = dtype in self._info.supported_backward_dtypes(device.type)
        with _seeded(generator.initial_seed()):
            samples = self._info.sample_inputs(
                device.type, dtype, requires_grad=has_gradient, set_seed=False
            )
            chosen = next(islice(filter(_has_elements, samples), number - 1, None), None)
        if chosen is None:
            raise NotImplementedError(f"{name} has fewer than {number} samples in {dtype}")
        return [chosen.input, *chosen.args], dict(chosen.kwargs)


class Operators:
    """The database's operators as attributes, by their names with underscores for dots."""

    def __getattr__(self, name: str) -> DatabaseOperator:
        """An operator; ConfigError where there is none of this name, or no database here."""
        if name == "__wrapped__":  # which is asked of anything that might be a function
            raise AttributeError(name)
        if name not in self._database:
            hint = suggestion(name, self._database)
            raise ConfigError(f"op={PREFIX}{name}: the database has no such operator{hint}")
        return DatabaseOperator(self._database[name])

    @cached_property
    def _database(self) -> dict[str, Any]:
        # which has switches set by context managers alone from then on, and this is no test
        quietly = patch.object(torch.backends, "disable_global_flags", lambda: None)
        try:
            with quietly:
                database: Any = import_module(DATABASE)
        except ImportError as error:
            needs = f"op={PREFIX}... needs what torch.testing imports ({error})"
            raise ConfigError(f"{needs}; pip install {EXTRA}") from error
        # nor is what draws at random to draw the same numbers in each call
        database.wrapper_set_seed = lambda function, *args, **kwargs: function(*args, **kwargs)
        return {info.formatted_name: info for info in database.op_db}


operators = Operators()


def _has_elements(sample: Any) -> bool:
    """Whether each tensor of a sample has some."""
    leaves = tree_leaves((sample.input, sample.args, sample.kwargs))
    return all(leaf.numel() for leaf in leaves if isinstance(leaf, Tensor))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Have everything that samples are drawn from begin at a seed, and go on as before."""
    import numpy as np  # of the extra opinfo

    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
