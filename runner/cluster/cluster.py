"""A sweep's cells on the cluster that its configuration names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from runner.cells.cell import Cell
from runner.cells.compose import HydraJob, told_apart
from runner.cluster.chunk import Chunk, plan
from runner.cluster.chunk_folder import ChunkWriter
from runner.cluster.driver import Driver
from runner.config.keys import check_keys
from runner.config.schema import ClusterConfig, Compare, Report, check_ranges
from runner.errors import ConfigError, tell, unknown
from runner.execute.progress import Progress
from runner.execute.session import Session
from runner.rows.rows import Row
from runner.units import counted, time_text

if TYPE_CHECKING:
    from runner.cluster.executor import Executor

NEEDS = {
    "ray": ("ray", "hydra_plugins.hydra_ray_launcher"),
    "slurm": ("submitit", "hydra_plugins.hydra_submitit_launcher"),
}


class Cluster:
    """The cluster of one sweep, whose rows are compared along an axis."""

    def __init__(self, config: ClusterConfig, axis: str) -> None:
        assert config.name is not None
        self.name = config.name
        self._config, self._axis = config, axis
        self._report, self._compare = Report(), Compare(in_turn=False)

    def compare_by(self, report: Report, compare: Compare) -> None:
        """Have cells that are compared measured in turn on their node, by a settled baseline."""
        self._report, self._compare, self._axis = report, compare, report.axis

    def describe(self, cells: Sequence[Cell], numbers: Sequence[int]) -> str:
        """What would be sent, in a line."""
        return self._described(plan(cells, numbers, self._config, self._axis))

    def check(self, cells: Sequence[Cell]) -> list[Cell]:
        """Refuse a cluster whose packages are missing; returns cells for this machine to check."""
        if not all(map(_installed, NEEDS[self.name])):
            raise ConfigError(
                f"cluster={self.name} needs packages that are not here: "
                f"pip install 'opsweep[{self.name}]'"
            )
        # traces would lie in folders of the nodes, which are gone when a job has ended; and nodes
        # have no process that counts
        asked = {
            "profile=true": any(cell.timing.profile for cell in cells),
            "counts=instructions": any(cell.timing.counts for cell in cells),
        }
        for word in compress(asked, asked.values()):
            raise ConfigError(
                f"timing.{word} goes without a cluster, and this is cluster={self.name}; "
                "leave one of the two out"
            )
        one_of_each = {id(cell.definition): cell for cell in cells}
        return [replace(cell, device="cpu") for cell in one_of_each.values()]

    def run(
        self,
        root: Path,
        jobs: Sequence[HydraJob],
        numbers: Sequence[int],
        session: Session,
        *,
        env_set: dict[str, str],
        stop_after: int | None,
        on_end: Callable[[int, list[Row]], None],
    ) -> None:
        """Run those jobs of a grid that have these numbers; their rows are in ``root`` afterwards.

        Nodes have the variables ``env_set``; ``on_end`` is told of each job that ends. ConfigError
        where the cluster cannot be had.
        """
        config = self._config
        planned = plan([job.cell for job in jobs], numbers, config, self._axis)
        of_all: dict[str, Any] = {"report": self._report, "compare": self._compare}
        of_all |= {"code": session.cells.environment["code"], "env_set": env_set}
        chunks = [replace(part, **of_all) for part in planned]
        number_of = {jobs[number].cell.identity: number for number in numbers}
        tell(self._described(chunks))
        shared = self._shared_folder(root)
        executor = self._executor(shared, [jobs[number].cell for number in numbers])
        writer = ChunkWriter(
            root, lambda number: jobs[number].overrides, samples=config.samples, messages=shared
        )

        def end(cell: Cell, rows: list[Row]) -> None:
            on_end(number_of[cell.identity], rows)

        names = told_apart([jobs[number] for number in numbers])
        with Progress(len(numbers), stop_after, end, names=names, quiet=session.quiet) as progress:
            driver = Driver(executor, writer, progress, config.retries, session.begin_measuring)
            driver.run(chunks)

    def _shared_folder(self, root: Path) -> Path | None:
        """The folder that this machine and the nodes share, where they have to."""
        if self.name == "ray":
            return None
        return Path(self._config.launcher.get("submitit_folder") or root / ".submitit").absolute()

    def _executor(self, shared: Path | None, cells: Sequence[Cell]) -> Executor:
        if shared is None:
            from runner.cluster.ray_executor import RayExecutor

            return RayExecutor(**self._config.launcher["ray"])
        from runner.cluster.slurm_executor import SlurmExecutor

        longest_s = max(cell.limit.time_s for cell in cells)
        return SlurmExecutor(self._config.launcher, shared, longest_s)

    def _described(self, chunks: Sequence[Chunk]) -> str:
        times = [chunk.expected_s for chunk in chunks]
        jobs = counted(len(chunks), "job")
        cells = counted(max(len(chunk.cells) for chunk in chunks), "cell")
        return (
            f"{jobs} for {self.name}, of at most {cells} and "
            f"{time_text(max(times))}; {time_text(sum(times))} in all on one device, "
            "if each cell samples for all the time that it may"
        )


def cluster_of(config: DictConfig) -> Cluster | None:
    """The cluster that a configuration names, with its values checked; None for this machine."""
    values: Any = OmegaConf.to_container(config.cluster, resolve=True)
    check_keys(values, ClusterConfig(), "cluster.")
    cluster = ClusterConfig(**values)
    if cluster.name is None:
        return None
    if cluster.name not in NEEDS:
        raise unknown(f"cluster.name={cluster.name} is unknown", cluster.name, NEEDS)
    check_ranges({f"cluster.{key}": value for key, value in values.items()})
    return Cluster(cluster, Report.of(config).axis)


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
