"""What the worker costs, compared with running in-process: a cell's time, and whether times differ.

    python tests/benchmarks/worker_cost.py

Both run the same cells, in turns. The worker's process is started before; importing torch is not
what is asked here.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir

from runner.cells.cell import Cell, cell_of
from runner.cli.arguments import CONF
from runner.cli.main import offer_plugins
from runner.execute.cell_run import run_cell
from runner.execute.worker import Worker
from runner.tasks.task import WorkerState


def cell(*overrides: str) -> Cell:
    """A cell as the command line would make it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return cell_of(compose("config", list(overrides)))


def main() -> None:
    """Print the cost of a cell both ways, then the medians of four timings both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    offer_plugins()
    with tempfile.TemporaryDirectory() as folder:
        log, worker = Path(folder) / "run.log", Worker()
        small = cell("op=add", "size=16", "timing=minimal")
        state = WorkerState()
        run_cell(small, state)
        worker.run(small, log)
        spent = {"worker": 0.0, "in-process": 0.0}
        for seed in range(options.cells):
            seeded = replace(small, seed=seed)
            start = time.perf_counter()
            worker.run(seeded, log)
            between = time.perf_counter()
            run_cell(seeded, state)
            spent["worker"] += between - start
            spent["in-process"] += time.perf_counter() - between
        each = {name: seconds / options.cells * 1e3 for name, seconds in spent.items()}
        print(
            f"{options.cells} cells: worker {each['worker']:.2f} ms, in-process "
            f"{each['in-process']:.2f} ms a cell, "
            f"{each['worker'] - each['in-process']:.2f} ms more"
        )
        for op, size in (("add", 64), ("sum", 1024), ("matmul", 256), ("matmul", 1024)):
            measured = cell(f"op={op}", f"size={size}", "threads=1")
            medians: dict[str, list[float]] = {"worker": [], "in-process": []}
            for _ in range(options.turns):
                medians["worker"].append(worker.run(measured, log)[0][0].median_s)  # type: ignore[attr-defined]
                medians["in-process"].append(run_cell(measured, state).rows[0].median_s)  # type: ignore[attr-defined]
            in_worker, in_process = (statistics.median(times) for times in medians.values())
            spread = max(max(times) / min(times) for times in medians.values())
            print(
                f"{op} {size}: worker {in_worker * 1e6:.2f} us, in-process {in_process * 1e6:.2f} "
                f"us, "
                f"ratio {in_worker / in_process:.3f}; "
                f"largest / smallest of {options.turns} the same way: {spread:.3f}"
            )
        worker.close()


if __name__ == "__main__":
    main()
