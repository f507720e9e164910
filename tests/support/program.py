"""The program of this checkout, run for a benchmark."""

import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_program(
    folder: Path, arguments: Sequence[str], codes: Collection[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    """``python -m runner`` in a folder, whose modules it finds; another exit code ends all."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in codes:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return done
