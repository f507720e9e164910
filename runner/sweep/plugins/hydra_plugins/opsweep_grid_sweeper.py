"""Where Hydra looks for the grid sweeper; what it does is in :mod:`runner.sweep.sweeper`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class GridSweeperConf:
    """The basic sweeper's settings, and further grids."""

    _target_: str = f"{__name__}.GridSweeper"
    max_batch_size: int | None = None  # taken for the basic sweeper's sake; all are one batch
    params: Any = field(default_factory=dict)  # the sweep's axes, each with its values
    also: Any = field(default_factory=list)  # grids that run after it, each such a mapping
    # instead of given sizes, look for the one from which the other side wins, see
    # :class:`runner.sweep.crossover_search.Range`
    crossover: Any = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="opsweep"
)


class GridSweeper(Sweeper):
    """What Hydra asks of a sweeper, passed on."""

    def __init__(
        self,
        max_batch_size: int | None,
        params: object = None,
        also: Sequence[Any] = (),
        crossover: object = None,
    ) -> None:
        given = {"params": params or {}, "extra_grids": also or [], "crossover": crossover}
        self._settings: dict[str, Any] = given

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives every sweeper."""
        # Hydra imports each plugin at every start, and this takes time
        from runner.sweep.sweeper import GridSweep

        self._sweep = GridSweep(hydra_context, task_function, config, **self._settings)

    def sweep(self, arguments: list[str]) -> object:
        """Run the sweep."""
        return self._sweep.run(arguments)
