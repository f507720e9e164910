"""The stages, in their order: runs of ``python -m runner``, and what is asked of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from runner.hardware import checks
from runner.hardware.checks import Check

CONF = Path(__file__).with_name("conf")
LONGEST_S = 360.0  # of a stage; what is left then is for another call
SEVERAL = "-m timing=quick compare.in_turn=false device=gpu"


@dataclass(frozen=True)
class Step:
    """A run of a stage.

    Attributes:
        name: of its folder, too.
        arguments: of ``python -m runner``; ``{size}`` and the like are from :data:`SIZES`.
        job: whose rows are looked at.
        check: what they must say.
        least_s: seconds without which it is not begun.
        code: what the run must end with.
    """

    name: str
    arguments: str
    check: Check
    job: str = "benchmark"
    least_s: float = 60.0
    code: int = 0


STAGES: Mapping[str, tuple[Step, ...]] = {
    "path": (
        Step("smoke", "+sweep=smoke", checks.ran),
        Step("path", f"{SEVERAL} op=add,transpose_copy,sum,matmul size={{sizes}}", checks.path),
        Step(
            "backward", f"{SEVERAL} op=add,matmul size={{size}} direction=backward,both", checks.ran
        ),
        Step(
            "graphs",
            f"{SEVERAL} op=matmul size={{size}} direction=forward,backward,both graph=false,true",
            checks.graphs,
        ),
    ),
    "kernels": (
        Step(
            "events",
            f"{SEVERAL} op=add,matmul,softmax,sum,transpose_copy size={{sizes}} "
            "dtype=float32,bfloat16 timing.check=profiler",
            checks.kernels,
        ),
        Step(
            "replayed",
            f"{SEVERAL} op=add,matmul size={{sizes}} graph=true timing.check=profiler",
            checks.kernels,
        ),
        Step("cold", f"{SEVERAL} op=add,sum size={{sizes}} cache=warm,cold", checks.cold),
        Step("energy", f"{SEVERAL} op=matmul,add size={{size}} timing.energy_s=3", checks.energies),
    ),
    "limits": (
        Step("roof", "+sweep=roof device=gpu size={size}", checks.roofs, "roof"),
        Step("transfer", "+sweep=transfer device=gpu {moved}", checks.transfers, "transfer"),
        Step(
            "faults",
            f"--config-dir {quote(str(CONF))} -m timing=minimal compare.in_turn=false device=gpu "
            "limit.time_s=20 'zip=[{{op: too_much, size: 16}}, {{op: add, size: 17}}, "
            "{{op: beyond, size: 16}}, {{op: add, size: 18}}, {{op: illegal, size: 16}}, "
            "{{op: add, size: 19}}, {{op: hang, size: 16}}, {{op: add, size: 20}}]'",
            checks.faults,
            code=1,
        ),
    ),
    "gpu": (Step("gpu", "+sweep=gpu {narrowed}", checks.ran),),
    "crossover": (Step("crossover", "+sweep=crossover {narrowed}", checks.ran),),
    "gradients": (
        Step("gradients", "+sweep=autograd device=gpu {some}", checks.gradients, "autograd"),
    ),
    "pairs": (Step("pairs", "+sweep=noise device=gpu {noted}", checks.equal_sides, "noise"),),
    "compiled": (
        Step(
            "compiled",
            f"{SEVERAL} op=softmax,gelu,add size={{size}} compile=off,default",
            checks.ran_or_cannot,
        ),
    ),
    "narrow": (
        Step(
            "float8",
            f"{SEVERAL} op=scaled_matmul size={{sizes}} dtype=float8_e4m3fn,float8_e5m2",
            checks.rates,
        ),
        Step("int8", f"{SEVERAL} op=int8_matmul size={{sizes}} dtype=int8", checks.rates),
    ),
}

SIZES: Mapping[bool, Mapping[str, str]] = {
    False: {
        "size": "1024",
        "sizes": "64,1024,4096",
        "moved": "",
        "narrowed": "",
        "some": "",
        "noted": "",
    },
    # on a simulated device, whose values the CPU computes
    True: {
        "size": "256",
        "sizes": "16,256,512",
        "moved": "size=4194304",
        "narrowed": "op=add,matmul dtype=float32",
        "some": "op=add,matmul dtype=float32",
        "noted": "op=add size=32",
    },
}
"""What arguments name, by whether the device is a simulated one."""
