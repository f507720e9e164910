"""What a model's calls take within it, on models whose times are known by their making."""

import time

import pytest
import torch
from torch import Tensor, nn

from runner.config.schema import Limit, Timing
from runner.config.workload.call import HOST
from runner.models import mlp
from runner.tasks.in_model import times_in_model
from tests.support.factories import ran

SLEEP_S = 0.02
ONCE = Timing(max_time_s=0.1, min_samples=1, max_samples=3, warmup_s=0.0, patience_s=0.0)


class Sleepy(nn.Module):
    """Spends nearly all of its time in none of its calls."""

    def forward(self, numbers: Tensor) -> Tensor:
        time.sleep(SLEEP_S)
        return torch.relu(numbers) + 1


class Counting(nn.Module):
    """Changes what it holds, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(1))

    def forward(self, numbers: Tensor) -> Tensor:
        self.passes.add_(1)
        return numbers + torch.rand_like(numbers)


def test_each_call_has_the_name_that_the_workload_gives_it() -> None:
    model, images = mlp.make_model().eval(), mlp.make_inputs()
    with torch.no_grad():
        found = times_in_model(lambda: model(images), torch.float32, 0.1)
    assert found is not None
    assert list(found.calls) == ["t_1", "addmm_1", "relu_1", "t_2", "addmm_2", "t_3", "addmm_3"]
    assert all(share > 0 for share in found.calls.values())
    assert found.calls["addmm_1"] > found.calls["t_1"]  # 51 million operations against a view


def test_what_passes_outside_the_calls_is_told() -> None:
    model, numbers = Sleepy(), torch.ones(8)
    found = times_in_model(lambda: model(numbers), torch.float32, 0.1)
    assert found is not None
    assert found.outside > 0.5
    assert sum(found.calls.values()) < 0.5


def test_a_call_that_takes_longer_at_first_shows_what_the_caches_cost() -> None:
    # a kernel of one's own that sleeps at its first call with some numbers, and not at once again
    seen: list[int] = []

    @torch.library.custom_op("opsweep_test::cold", mutates_args=())
    def cold(numbers: Tensor) -> Tensor:
        if seen[-1:] != [id(numbers)]:
            time.sleep(SLEEP_S)
        seen.append(id(numbers))
        return numbers.clone()

    numbers = torch.ones(8)

    def call() -> Tensor:
        seen.clear()
        return cold(numbers)

    found = times_in_model(call, torch.float32, 0.1)
    assert found is not None
    assert found.caches > 0.5


def test_what_changes_something_is_made_once_a_pass() -> None:
    model, numbers, passes = Counting(), torch.ones(8), [0]

    def call() -> Tensor:
        passes[0] += 1
        return model(numbers)

    torch.manual_seed(0)
    assert times_in_model(call, torch.float32, 0.0) is not None
    assert model.passes.item() == passes[0]
    state = torch.get_rng_state()
    torch.manual_seed(0)
    for _ in range(passes[0]):
        torch.rand_like(numbers)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_view_is_made_where_its_data_are() -> None:
    model, numbers = nn.Sequential(nn.ReLU(), nn.Flatten(0), nn.Tanh()), torch.ones(4, 8)
    found = times_in_model(lambda: model(numbers), torch.float32, 0.0, [numbers])
    assert found is not None
    flow = {maker: users for maker, users, _, _ in found.flow}
    assert flow == {HOST: ("relu_1",), "relu_1": ("tanh_1", "view_1"), "tanh_1": (HOST,)}


def test_a_model_that_makes_other_calls_each_time_has_none() -> None:
    passes = [0]

    def call() -> Tensor:
        passes[0] += 1
        numbers = torch.ones(8)
        for _ in range(passes[0] % 4):
            numbers = numbers + 1
        return numbers

    assert times_in_model(call, torch.float32, 0.1) is None


def test_a_backward_pass_is_watched_too() -> None:
    model, images = mlp.make_model().train(), mlp.make_inputs()
    found = times_in_model(lambda: model(images).sum().backward(), torch.float32, 0.1)
    assert found is not None
    assert {"mm_1", "threshold_backward_1"} <= found.calls.keys()


def test_columns_are_seconds_of_a_pass() -> None:
    model, numbers = Sleepy(), torch.ones(8)
    found = times_in_model(lambda: model(numbers), torch.float32, 0.0)
    assert found is not None
    assert found.columns(2.0)["outside_s"] == pytest.approx(2.0 * found.outside)


MODEL = {"name": "model", "call": f"{__name__}.Sleepy", "signature": "n -> n", "passes": "forward"}


@pytest.mark.parametrize(("limit_s", "is_told"), [(900.0, True), (1.0, False)])
def test_it_takes_a_share_of_the_limit_at_most(limit_s: float, is_told: bool) -> None:
    op = {**MODEL, "differentiable": False}
    row = ran(op, size=8, limit=Limit(time_s=limit_s), timing=ONCE)
    assert row.status == "ok", row.reason
    assert ("outside_s" in (row.own or "")) is is_told
