"""A cell: what it may be, what it cannot be measured as, and what makes it another one."""

import re
from typing import Any

import pytest

from runner.errors import ConfigError
from tests.support.factories import cell, op_file

SIZES = (
    "allowed: 256 (256x256), 64x1024x1024, or named dimensions such as {m: 64, k: 128}, "
    "each of 1 or more, and 64 dimensions at most"
)
DEVICES = "allowed: cpu, gpu, cuda, xpu, mps, mtia, hpu, npu"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dtype": "float31"}, r"dtype=float31 is unknown \(did you mean 'float32'\?\); allowed: "),
    ({"device": "gppu"}, rf"device=gppu is unknown \(did you mean 'gpu'\?\); {DEVICES}"),
    ({"device": "cuda:x"}, r"device=cuda:x is unknown"),
    ({"device": "cpu:3"}, r"device=cpu:3 is unknown"),
    ({"direction": "sideways"}, r"direction=sideways is unknown; allowed: forward, backward, both"),
    ({"threads": 0}, r"threads=0 is too small; give 1 or more"),
    ({"threads": 50000}, r"threads=50000 is too large; give 1024 or less"),
    ({"seed": -1}, r"seed=-1 is too small; give 0 or more"),
    ({"seed": 10**15 + 1}, r"seed=1000000000000001 is too large; give 1000000000000000 or less"),
    ({"limit": {"time_s": -1.0}}, r"limit.time_s=-1 is out of range; give a positive number"),
    (
        {"report": {"calls_per_transfer": 0}},
        r"report.calls_per_transfer=0 is too small; give 1 or more",
    ),
    ({"size": 10**20}, r"size=100000000000000000000 is not a size"),
    ({"size": 0}, re.escape(f"size=0 is not a size; {SIZES}")),
    ({"size": -3}, re.escape(f"size=-3 is not a size; {SIZES}")),
    ({"size": "1024y1024"}, re.escape(f"size=1024y1024 is not a size; {SIZES}")),
    ({"size": []}, re.escape(f"size=[] is not a size; {SIZES}")),
]
OF_MATMUL: list[tuple[dict[str, Any], str]] = [
    ({"cal": "torch.add"}, r"unknown field 'cal' \(did you mean 'call'\?\); the fields are name"),
    ({"flop": "2*z"}, r"flop: 2\*z: unknown dimension z; known here: batch, complex, k, m, n"),
    ({"flop": "10**100000"}, r"formula '10\*\*100000' cannot be evaluated for .* too large"),
    ({"signature": "m"}, r"signature 'm': write inputs -> outputs"),
    (
        {"dtypes": ["real"]},
        r"dtypes: real is no kind of dtype; allowed: floating, float8, integer, complex, bool",
    ),
]
INFEASIBLE: list[tuple[str, dict[str, Any], str]] = [
    (
        "matmul",
        {"size": {"m": 4, "k": 2, "z": 3}},
        r"op matmul, .*: unknown: z; the dimensions are batch, k, m, n",
    ),
    (
        "conv2d",
        {"size": "1x1x2x2"},
        r"op conv2d, .*: dimension [pq] = . - . \+ 1 would be 0; choose a larger size",
    ),
    ("gelu", {"dtype": "int32"}, r"op gelu takes no integer dtype \(int32\); it takes: floating"),
    ("gelu", {"dtype": "int32", "job": "autograd"}, r"op gelu takes no integer dtype"),
    (
        "max",
        {"dtype": "int32", "direction": "backward"},
        r"op max in int32 has no gradient, which direction=backward needs",
    ),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_a_value_that_cannot_be_is_refused_with_what_is_allowed(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cell("matmul", **values)


@pytest.mark.parametrize(("fields", "message"), OF_MATMUL)
def test_a_wrong_field_of_an_operation_is_refused_with_its_files_name(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"op (file )?matmul: {message}"):
        cell({**op_file("matmul"), **fields}, size=8)


@pytest.mark.parametrize(("op", "values", "message"), INFEASIBLE)
def test_what_an_operation_cannot_be_asked_is_a_reason_and_no_error(
    op: str, values: dict[str, Any], message: str
) -> None:
    """Since in a sweep the other cells run."""
    assert re.search(message, cell(op, **values).infeasible_reason)


def test_how_a_cell_is_called_is_part_of_what_it_is() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"cache": "cold"},
        {"layout": "transposed"},
        {"fill": "zeros"},
        {"compile": "default"},
        {"dynamic": True, "compile": "default"},
        {"grad_mode": "inference"},
        {"autocast": "bfloat16"},
        {"deterministic": True},
    ]
    assert len({cell(**kind).identity for kind in kinds}) == len(kinds)


def test_whether_a_cell_may_be_visited_again_makes_no_other_cell_of_it() -> None:
    once, again = (cell(timing={"revisit_share": share}) for share in (0.0, 0.5))
    assert (once.identity, once.variant) == (again.identity, again.variant)
    assert once.identity != cell(timing={"revisit_share": 0.0, "patience_s": 1.0}).identity
