"""Where Hydra looks for ``op=opinfo:NAME``; :mod:`runner.config.operator_database` has the file."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from runner.config.operator_database import PREFIX, op_file

SCHEME = PREFIX.removesuffix(":")
GROUP = "op/"


class OperatorDatabase(ConfigSource):
    """A file for each name behind ``opinfo:``; which of them there are torch alone knows."""

    @staticmethod
    def scheme() -> str:
        """What stands before ``://``."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """The file of an operator."""
        config = OmegaConf.create(op_file(config_path.removeprefix(GROUP)))
        return ConfigResult(self.provider, self.full_path(), config, {"package": None})

    def is_config(self, config_path: str) -> bool:
        """Whether a choice is one of these."""
        return config_path.removeprefix(GROUP).startswith(PREFIX)

    def is_group(self, config_path: str) -> bool:
        """None: ``op=glob(*)`` is to mean the files that are there."""
        return False

    def available(self) -> bool:
        """Always."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing, see :meth:`is_group`."""
        return []


class OperatorDatabasePath(SearchPathPlugin):
    """Has Hydra look there last."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the database's place."""
        search_path.append("opsweep", f"{SCHEME}://")
