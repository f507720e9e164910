"""Does a pair's interval hold the true ratio where visiting stops, at what width?

From recorded visits, whose phases, correlation and tails are a real machine's: each pair's log
ratios are shifted so that the true ratio is 1, and drawn again in runs of neighbours (moving-block
bootstrap: Kuensch, Annals of Statistics 17, 1989) as long as the budget says. They are then looked
at as the program does, and stop where it would.

    python tests/benchmarks/aa.py --pairs 96 --keep visits
    python tests/benchmarks/interval_coverage.py visits

Printed for each budget of visits: how often the interval holds 1, how often a difference is
claimed, and the median width over that of an interval of as many visits that is looked at once.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import defaultdict
from pathlib import Path
from random import Random
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from runner.stats.intervals import median_interval
from runner.stats.sequential import verdict_of
from tests.support.at_the_stop import MARGIN, at_the_stop

BUDGETS = (40, 120, 400)
FEWEST = 20  # visits of a pair that is drawn from
NEIGHBOURS = 8  # visits that are drawn together


def main() -> None:
    """Draw from every pair, and print a line for each budget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what aa.py --keep left")
    parser.add_argument("--series", type=int, default=20, help="drawn of each pair")
    options = parser.parse_args()

    recorded = _recorded(options.folder)
    random = Random(0)
    print(f"{len(recorded)} pairs, {options.series} series of each")
    for budget in BUDGETS:
        held = claimed = 0
        widths = []
        for values in recorded * options.series:
            series = _drawn(values, budget, random)
            ratio = at_the_stop(series)
            fixed = median_interval(sorted(series[: ratio.visits]))
            assert ratio.low is not None and ratio.high is not None and fixed is not None
            held += ratio.low <= 1 <= ratio.high
            claimed += verdict_of(ratio.low, ratio.high, MARGIN) in ("faster", "slower")
            widths.append(math.log(ratio.high / ratio.low) / (fixed[1] - fixed[0]))
        count = len(widths)
        print(
            f"{budget:4} visits: holds 1 in {held / count:.1%}, claimed {claimed / count:.2%}, "
            f"width {median(widths):.2f} times a single look's"
        )


def _recorded(folder: Path) -> list[list[float]]:
    """Each pair's log ratios in the order of time, about 0."""
    ratios = defaultdict(list)
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            for visit in csv.DictReader(file):
                if visit["undisturbed"] == "True":
                    pair = (path.name, visit["baseline_cell"], visit["other_cell"])
                    ratios[pair].append(
                        math.log(float(visit["baseline_s"]) / float(visit["other_s"]))
                    )
    centred = []
    for values in ratios.values():
        if len(values) >= FEWEST:
            centre = median(values)
            centred.append([value - centre for value in values])
    return centred


def _drawn(values: list[float], length: int, random: Random) -> list[float]:
    """As many values, in runs of neighbours."""
    series: list[float] = []
    while len(series) < length:
        begin = random.randrange(len(values) - NEIGHBOURS + 1)
        series += values[begin : begin + NEIGHBOURS]
    return series[:length]


if __name__ == "__main__":
    main()
