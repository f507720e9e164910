"""Overhead per cell on Ray apart from its measuring.

Twenty cells a chunk, next to one cell a chunk, in one run.

    python tests/benchmarks/ray_overhead.py

Starts a Ray of one node in namespaces of its own (as tests/end_to_end/test_ray.py does), with one
slot for chunks. The cost is the time that the driver's loop took, less what the cells themselves
say that they took, over the number of cells.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CELLS = 20
SIZES = ",".join(str(size) for size in range(8, 8 + CELLS))


def one(cells_per_chunk: int, root: Path) -> None:
    """One sweep, and its line."""
    sys.path.insert(0, str(ROOT))
    import pandas as pd

    from runner.cli import main as app
    from runner.cluster.driver import Driver

    took: list[float] = []
    run = Driver.run

    def timed(self: Driver, *arguments: object) -> None:
        begun = time.monotonic()
        run(self, *arguments)  # type: ignore[arg-type]
        took.append(time.monotonic() - begun)

    Driver.run = timed  # type: ignore[method-assign, assignment]
    app.offer_plugins()
    words = ["-m", "op=add", f"size={SIZES}", "device=cpu", "timing=quick", "cluster=ray"]
    code = app.run(
        [*words, f"cluster.cells_per_chunk={cells_per_chunk}", f"hydra.sweep.dir={root}"]
    )
    rows = pd.read_csv(root / "results.csv")
    assert code == 0 and len(rows) == CELLS and (rows["status"] == "ok").all(), rows
    own_s = rows["seconds"].sum()
    print(
        f"{cells_per_chunk:2} cells a chunk: {took[0]:.1f} s for {CELLS} cells, which took "
        f"{own_s:.1f} s themselves: "
        f"{(took[0] - own_s) / CELLS:.2f} s a cell more; "
        f"{size_of(root, 'samples.csv.gz') / CELLS:.0f} bytes of samples a cell",
        file=sys.stderr,
    )


def size_of(root: Path, name: str) -> int:
    """Bytes of the files below a folder whose names end so."""
    return sum(
        path.stat().st_size
        for path in root.rglob("*")
        if path.is_file() and path.name.endswith(name)
    )


def main() -> None:
    """Both, one after the other, on the same node."""
    if sys.argv[1:2] == ["one"]:
        one(int(sys.argv[2]), Path(sys.argv[3]))
        return
    with tempfile.TemporaryDirectory(prefix="opsweep-") as folder:
        here = f'"{sys.executable}" "{__file__}" one'
        script = " && ".join(
            f'{here} {n} "{folder}/{n}" >/dev/null 2>{folder}/{n}.err' for n in (20, 1)
        )
        cluster = [
            sys.executable,
            str(ROOT / "tests" / "support" / "two_nodes.py"),
            folder,
            "--nodes",
            "1",
            "--",
            "sh",
            "-c",
            script,
        ]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder}  # device locks of its own
        code = subprocess.run(cluster, cwd=folder, env=env, check=False).returncode
        for n in (20, 1):
            error = Path(folder, f"{n}.err")
            if error.is_file():
                text = error.read_text()
                print(text if code else text.splitlines()[-1])
        sys.exit(code)


if __name__ == "__main__":
    main()
