"""The package's models, and that the workloads of ``conf/workload`` are what they do."""

from pathlib import Path

import pytest
import torch
import yaml

from runner.execute.cell_run import run_cell
from runner.models import conv_net, mlp, transformer_block
from tests.conftest import ROOT
from tests.support.factories import STATE, cell

MODELS = {"mlp": mlp, "conv_net": conv_net, "transformer_block": transformer_block}


@pytest.mark.parametrize("name", MODELS)
def test_a_ready_workload_is_what_its_model_does(name: str, tmp_path: Path) -> None:
    module = f"runner.models.{name}"
    names = {"model": f"{module}.make_model", "inputs": f"{module}.make_inputs", "name": name}
    (row,) = run_cell(cell(job="trace", into=str(tmp_path), **names), STATE).rows
    assert row.status == "ok", row.reason
    texts = [folder / "workload" / f"{name}.yaml" for folder in (tmp_path, ROOT / "conf")]
    now, stored = (yaml.safe_load(text.read_text())[name]["calls"] for text in texts)

    def said(calls: list[dict[str, object]]) -> list[tuple[object, ...]]:
        return [
            (c["name"], c["function"], c.get("count"), c["outputs"], c.get("reason")) for c in calls
        ]

    assert said(now) == said(stored)


def test_the_models_are_of_the_sizes_that_they_say() -> None:
    parameters = {
        name: sum(p.numel() for p in model.make_model().parameters())
        for name, model in MODELS.items()
    }
    # of a block of GPT-2 small: 12 d^2 + 13 d
    assert parameters["transformer_block"] == 12 * 768**2 + 13 * 768
    assert parameters["mlp"] == 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    with torch.no_grad():
        assert conv_net.make_model()(conv_net.make_inputs()).shape == (1, 1_000)
