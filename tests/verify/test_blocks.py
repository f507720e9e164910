"""Where the whole reference would take too long, blocks of the output are compared."""

import pytest
import torch

from runner.config.size import parse_size
from runner.verify import blocks, values
from runner.verify.blocks import WHOLE
from runner.verify.values import block_to_check, check_values
from tests.support.factories import bound

CPU = torch.device("cpu")
PRODUCT = {"signature": "m k, k n -> m n", "size": "256x128 n=256", "tolerance": "8 * sqrt(k)"}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let little be too much for a whole reference."""
    monkeypatch.setattr(values, "WHOLE_ELEMENTS", 2**10)
    monkeypatch.setattr(blocks, "MOST_ELEMENTS", 2**14)


def forgets_a_tile(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A product with a tile of zeros."""
    product = a @ b
    product[:64, 64:128] = 0.0
    return product


@pytest.mark.parametrize(
    ("call", "fields", "axes"),
    [
        (torch.matmul, PRODUCT, {"m", "n"}),
        (lambda x: x.softmax(-1), {"size": "8x96x128"}, {"...0", "...1"}),
        (torch.exp, {"signature": "... -> ...", "size": "96x128"}, {"...0", "...1"}),
        (lambda x: x.cumsum(-2), {"signature": "m n -> m n", "size": "96x128"}, {"n"}),
        (lambda x: x.sort(-1)[0], {"signature": "m n -> m n", "size": "96x128"}, {"m"}),
    ],
)
def test_an_output_is_divided_where_the_operation_itself_divides(call, fields, axes) -> None:
    op = bound(call, **fields)
    block = block_to_check(op, parse_size(fields["size"]))
    assert set(block) == axes
    found = check_values(op, CPU, None, block)
    assert found.compared and not found.wrong
    assert found.size == op.op.size_text(op.dimensions)


def test_what_does_not_divide_and_what_costs_little_is_compared_whole() -> None:
    assert (
        block_to_check(bound(lambda x: x / x.norm(), size="96x128"), parse_size("96x128")) == WHOLE
    )
    assert block_to_check(bound(torch.exp, size="8x8"), parse_size("8x8")) == WHOLE


def test_a_tile_that_is_wrong_is_found_at_positions_that_are_random() -> None:
    op = bound(forgets_a_tile, reference=torch.matmul, **PRODUCT)
    drawn = [block_to_check(op, parse_size(str(PRODUCT["size"]))) for _ in range(3)]
    assert len({tuple(block["m"].tolist()) for block in drawn}) == 3
    assert all(check_values(op, CPU, None, block).wrong for block in drawn)
