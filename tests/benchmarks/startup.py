"""How long ``--help`` and an error in a key take, next to a bare Hydra application's, in one call.

    python tests/benchmarks/startup.py

The two take turns. The bare application has a config file of one key. Both have their modules
compiled, as they are after a first start; PYTHONDONTWRITEBYTECODE=1 would have ours alone compiled
each time.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
TURNS = 15
APPLICATION = """
import hydra
@hydra.main(config_path={path!r}, config_name="config", version_base="1.3")
def main(config):
    pass
main()
"""


def seconds(command: list[str], folder: str) -> float:
    """How long a command takes."""
    start = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, check=False
    )
    return time.perf_counter() - start


def main() -> None:
    """Print the medians and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conf").mkdir()
        (Path(folder) / "conf" / "config.yaml").write_text("seed: 0\n")
        bare = Path(folder) / "bare.py"
        bare.write_text(APPLICATION.format(path=str(Path(folder) / "conf")))
        for words in (["--help"], ["sede=1"]):
            times: dict[str, list[float]] = {"bare": [], "runner": []}
            for _ in range(1 + TURNS):  # the first compiles
                times["bare"].append(seconds([str(bare), *words], folder))
                times["runner"].append(seconds(["-m", "runner", *words], folder))
            least, ours = (statistics.median(times[name][1:]) for name in ("bare", "runner"))
            print(f"{words[0]:8} bare {least:.3f} s, runner {ours:.3f} s, {ours / least:.2f} times")


if __name__ == "__main__":
    main()
