"""``environment.json``: what a sweep may be taken up again with."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigError
from runner.rows.environment_file import add_node, check_same_environment


def test_a_sweep_is_taken_up_again_on_other_machines_and_not_with_other_versions(
    tmp_path: Path,
) -> None:
    def environment(
        node: str, torch: str = "2.13.0+cpu", threads: int = 2, cluster: str | None = None
    ) -> dict[str, Any]:
        return {
            "node": node,
            "torch": {"version": torch, "threads": threads},
            "python": "3.11.7",
            "cluster": cluster,
        }

    def been(there: dict[str, Any]) -> None:
        (tmp_path / "environment.json").write_text(json.dumps(there))

    been(environment("here"))
    check_same_environment(tmp_path, environment("here"))
    with pytest.raises(ConfigError, match=r"torch.threads was 2 and is 4"):
        check_same_environment(tmp_path, environment("here", threads=4))
    with pytest.raises(ConfigError, match=r"side was None and is "):
        check_same_environment(tmp_path, environment("here") | {"side": {"python": "python"}})
    check_same_environment(tmp_path, environment("driver", "2.13.0+cu128", 64, "ray"))
    with pytest.raises(ConfigError, match=r"torch.version was 2.13.0 and is 2.14.0"):
        check_same_environment(tmp_path, environment("driver", "2.14.0", cluster="ray"))
    assert add_node(tmp_path, "here", environment("here", threads=8)) == [
        "torch.threads was 2 and is 8"
    ]

    been(environment("driver", cluster="ray"))
    assert add_node(tmp_path, "far", environment("far", "2.13.0+cu128", 32)) == []
    check_same_environment(tmp_path, environment("elsewhere", threads=1))
    with pytest.raises(ConfigError, match=r"torch.threads was 32 and is 1"):
        check_same_environment(tmp_path, environment("far", "2.13.0+cu128", threads=1))
