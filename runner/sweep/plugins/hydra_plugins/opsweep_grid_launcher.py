"""Where Hydra looks for the grid launcher; what it does is in :mod:`runner.sweep.launcher`."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class GridLauncherConf:
    """The launcher has no settings."""

    _target_: str = f"{__name__}.GridLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="grid", node=GridLauncherConf, provider="opsweep"
)


class GridLauncher(Launcher):
    """What Hydra asks of a launcher, passed on."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives every launcher."""
        # Hydra imports each plugin at every start, and this takes time
        from runner.sweep.launcher import JobLauncher

        self.jobs = JobLauncher(hydra_context, task_function, config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs that follow each other."""
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        return self.jobs.launch(list(map(self.jobs.composer.job, job_overrides)), numbers)
