"""PyTorch's own operators, with samples from its database, which takes seconds to load."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from runner.calls.operator_database import operators
from runner.config.operator_database import every_operator, op_file
from runner.errors import ConfigError
from tests.conftest import Runner
from tests.support.factories import ran

pytestmark = pytest.mark.exhaustive


def sample(name: str, number: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    make = getattr(operators, name).sample
    return make({"n": number}, dtype, torch.device("cpu"), generator)


def test_samples_are_the_seeds_and_numbered_from_one() -> None:
    before = torch.get_rng_state()
    first, again, other = (sample("addmm", seed=seed)[0][0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(NotImplementedError, match="opinfo:addmm has fewer than 900 samples"):
        sample("addmm", 900)
    with pytest.raises(
        NotImplementedError, match=r"opinfo:gcd takes .*int64.* on cpu, not float32"
    ):
        sample("gcd")
    with pytest.raises(ConfigError, match=r"no such operator \(did you mean 'softmax'"):
        _ = operators.softmaxx


@pytest.mark.parametrize(
    ("name", "gradient", "checked"),
    [
        ("nn.functional.conv2d", "pass", "full"),
        ("index_put", "pass", "full"),  # indices in a tuple
        ("stack", "pass", "full"),  # tensors in a list
        ("linalg_svd", "pass", "full"),
        ("linalg.cholesky", "pass", "full"),  # of a symmetric matrix
        ("cumsum", "pass", "full"),
        ("argmax", None, "full"),
        ("empty", None, None),  # memory that nobody has written to
        ("bernoulli", "pass", "moments"),
    ],
)
def test_operators_of_many_kinds_are_timed_and_checked(
    name: str, gradient: str | None, checked: str | None
) -> None:
    row = ran(op_file(f"opinfo:{name}"))
    assert (row.status, row.op) == ("ok", f"opinfo:{name.replace('.', '_')}"), row.reason
    assert row.median_s and (row.gradient, row.checked) == (gradient, checked), row.reason


def test_they_are_chosen_like_any_operation(runner: Runner, tmp_path: Path) -> None:
    words = ["op=opinfo:sin,opinfo:nn.functional.relu,opinfo:gcd", "timing=minimal"]
    runner("-m", *words, "hydra.sweep.dir=out")
    rows = pd.read_csv(tmp_path / "out" / "results.csv").set_index("op")
    assert dict(rows["status"]) == {
        "opinfo:sin": "ok",
        "opinfo:nn_functional_relu": "ok",
        "opinfo:gcd": "unsupported",
    }
    assert list(rows["gradient"].dropna()) == ["pass", "pass"]
    unknown = runner("op=opinfo:sine", code=2)
    assert (
        "op=opinfo:sine: the database has no such operator (did you mean 'sin'?)" in unknown.stderr
    )
    every = every_operator().split(",")
    assert len(set(every)) == len(every) > 500 and "opinfo:sin" in every
