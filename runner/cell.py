"""A cell: one combination of operation, size, dtype, device and the rest, checked and hashable to an identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner.config import Limit, Timing, check_values
from runner.dtypes import KIND_OF
from runner.errors import ConfigError
from runner.operation import Operation
from runner.signature import Dimensions
from runner.size import Size, parse_size

SCHEMA_VERSION = 1  # of the rows and of what a cell's identity covers; a change makes old rows another schema's


@dataclass(frozen=True)
class Cell:
    """One frozen combination.

    Attributes:
        asked: the size as it was asked for.
        size: the size as results show it: the first input's shape, and what differs from its defaults.
        dimensions: the length of each dimension; None where the operation cannot take the size.
        impossible: why this operation cannot run at this size, dtype or direction; blank where it can.
        threads: PyTorch's intra-op threads; None: its default.
    """

    job: str
    op: Operation
    asked: Size
    size: str
    dimensions: Dimensions | None
    impossible: str
    dtype: str
    device: str
    threads: int | None
    direction: str
    seed: int
    timing: Timing
    limit: Limit
    backend_module: str | None

    @cached_property
    def identity(self) -> str:
        """A hash of all that determines what is measured; limits do not."""
        content = {
            "schema": SCHEMA_VERSION,
            **{key: getattr(self, key) for key in ("job", "size", "dtype", "device", "threads", "direction", "seed")},
            "op": asdict(self.op),
            "timing": asdict(self.timing),
            "backend_module": self.backend_module,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The cell in a few words, for a progress line."""
        words = [self.op.name, self.size, self.dtype, self.device]
        words += [f"threads={self.threads}"] * (self.threads is not None)
        words += [self.direction] * (self.direction != "forward")
        return " ".join(words)


def operation_of(config: DictConfig) -> Operation:
    """The operation that a composed configuration declares.

    Raises:
        ConfigError: its file has a missing, misspelt or wrong field.
    """
    fields: Any = OmegaConf.to_container(config.op, resolve=True)
    return Operation.from_mapping(fields, f"op file {fields.get('name') or '(no name)'}")


def cell_of(config: DictConfig, operation: Operation) -> Cell:
    """Check a composed configuration and freeze it.

    Args:
        config: with the keys of :class:`runner.config.Config`.
        operation: what :func:`operation_of` made of it, so that a sweep reads each file once.

    Raises:
        ConfigError: a value is wrong by itself. Values that are right but do not go together give a cell that says so.
    """
    check_values(config)
    given = config.size if config.size is not None else operation.size
    asked = parse_size(OmegaConf.to_container(given) if OmegaConf.is_config(given) else given)
    dimensions, impossible = None, _dtype_problem(operation, config.dtype, config.direction, config.job)
    size = str(config.size)
    try:
        dimensions = operation.bind(asked)
        size = operation.size_text(dimensions)
    except ConfigError as error:
        impossible = str(error)
    return Cell(
        job=config.job,
        op=operation,
        asked=asked,
        size=size,
        dimensions=dimensions,
        impossible=impossible,
        dtype=config.dtype,
        device=config.device,
        threads=config.threads,
        direction=config.direction,
        seed=config.seed,
        timing=Timing(**config.timing),
        limit=Limit(**config.limit),
        backend_module=config.backend_module,
    )


def _dtype_problem(operation: Operation, dtype: str, direction: str, job: str) -> str:
    kind = KIND_OF[dtype]
    if kind not in operation.dtypes:
        return f"op {operation.name} takes no {kind} dtype ({dtype}); it takes: {', '.join(operation.dtypes)}"
    needs_gradient = direction != "forward" or job == "autograd"
    if needs_gradient and (not operation.differentiable or kind not in ("floating", "complex")):
        return f"op {operation.name} in {dtype} has no gradient, which {'job=autograd' if direction == 'forward' else f'direction={direction}'} needs"
    return ""
