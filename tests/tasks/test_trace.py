"""Tracing: which calls are recorded, with what, and that they can be made again."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from runner.config.workload.call import Call
from runner.execute.cell_run import run_cell
from runner.rows.rows import TraceRow
from runner.tasks import trace
from runner.tasks.recorder import _attention, described
from tests.support.factories import STATE, cell, ran


class Small(nn.Module):
    """An embedding, two equal layers, what depends on numbers, what is random, and views."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, tokens: torch.Tensor, scale: float) -> torch.Tensor:
        hidden = self.table(tokens)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        hidden = torch.cat([hidden, hidden.exp()], -1).transpose(0, 1) * scale
        return torch.dropout(hidden, 0.5, train=True)[:, hidden[0, 0, 0].item() > 9 :]


def make_inputs() -> tuple[torch.Tensor, float]:
    return torch.arange(20).reshape(4, 5), 0.5


def traced(folder: Path, **settings: Any) -> tuple[TraceRow, list[dict[str, Any]]]:
    """The row of a trace, and the calls in its file."""
    here = "tests.tasks.test_trace"
    names = {"model": f"{here}.Small", "inputs": f"{here}.make_inputs", "name": "small"}
    (row,) = run_cell(cell(job="trace", into=str(folder), **names, **settings), STATE).rows
    assert isinstance(row, TraceRow)
    assert row.status == "ok", row.reason
    content = yaml.safe_load((folder / "workload" / "small.yaml").read_text())
    return row, content["small"]["calls"]


def test_calls_are_recorded_with_how_often_and_where(tmp_path: Path) -> None:
    row, (whole, *calls) = traced(tmp_path)
    by_name = {call["name"]: call for call in calls}
    assert whole["passes"] == "forward"
    assert whole["args"] == [{"shape": [4, 5], "dtype": "int64", "below": 20}, 0.5]
    assert by_name["addmm_1"]["count"] == 2
    assert by_name["addmm_1"]["modules"] == {"layers.0": 1, "layers.1": 1}
    assert by_name["addmm_1"]["args"][2] == {"shape": [8, 8], "stride": [1, 8]}
    assert by_name["embedding_1"]["args"][1]["below"] == 20
    assert by_name["exp_1"]["args"] == [{"shape": [4, 5, 8], "domain": "nonnegative"}]
    assert "depends on the numbers" in by_name["local_scalar_dense_1"]["reason"]
    assert any(call.get("random") for call in calls)
    assert row.calls == sum(call["count"] for call in calls)
    assert row.distinct == len(calls)
    assert row.not_reproduced == sum("reason" in call for call in calls) == 2
    assert "whatever the memory held" in by_name["empty_like_1"]["reason"]
    assert row.model_s and row.covered and 0 < row.covered <= 1


@pytest.mark.slow
def test_every_recorded_call_can_be_made_again(tmp_path: Path) -> None:
    _, calls = traced(tmp_path, trace={"passes": "step"})
    assert {call["name"].rpartition("_")[0] for call in calls} >= {
        "mm",
        "threshold_backward",
        "sub",
    }
    for fields in calls:
        call = Call.of({**fields, "workload": "small"})
        if not call.reason:
            row = ran(call=call.text, timing={"max_time_s": 0.001, "min_samples": 1})
            assert row.status == "ok", (fields, row.reason)
            assert "wrong_values" not in row.flags, (fields, row.max_relative_error)


def test_what_is_written_is_put_back(tmp_path: Path) -> None:
    _, calls = traced(tmp_path, trace={"passes": "step"})
    (step, *_) = [call for call in calls if call["name"].startswith("sub")]
    assert step["args"][0]["written"]
    assert "written" not in step["args"][1]
    assert step["differentiable"] is False


def test_a_model_without_numbers_has_calls_and_no_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "place_of", lambda op, free: "meta")
    monkeypatch.setattr(Small, "forward", lambda self, tokens, scale: self.table(tokens) * scale)
    row, (_, *calls) = traced(tmp_path)
    assert row.on_meta and row.covered is None and row.model_s is None
    assert [call["name"] for call in calls] == ["embedding_1", "mul_1"]


class Attending(Small):
    """Attention with a mask and a scale, and causal with dropout."""

    def forward(self, tokens: torch.Tensor, scale: float) -> torch.Tensor:
        x = self.table(tokens)[:, None]
        mask = torch.ones(5, 5, dtype=torch.bool).tril()
        attend = nn.functional.scaled_dot_product_attention
        x = attend(x, x, x, attn_mask=mask, scale=scale)
        return attend(x, x, x, dropout_p=0.0, is_causal=True)


def test_attention_is_recorded_as_what_every_device_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Small, "forward", Attending.forward)
    _, calls = traced(tmp_path)
    masked, causal = (c for c in calls if c["name"].startswith("scaled_dot_product"))
    for call in (masked, causal):
        assert call["function"] == "torch.nn.functional.scaled_dot_product_attention"
        assert call["outputs"] == [[4, 1, 5, 8]] and "random" not in call
        row = ran(call=Call.of({**call, "workload": "small"}).text)
        assert (row.status, row.gradient) == ("ok", "pass"), row.reason
        assert "wrong_values" not in row.flags
    assert masked["kwargs"]["scale"] == 0.5
    assert masked["kwargs"]["attn_mask"]["shape"][-2:] == [5, 5]
    assert causal["kwargs"]["is_causal"] is True


def test_each_devices_attention_is_the_same_call() -> None:
    """Those of CUDA, by their schemas: a bias by position, and what is asked for beside."""
    aten = torch.ops.aten
    named = {"query": 1, "key": 2, "value": 3, "attn_bias": 4, "compute_log_sumexp": True}
    efficient = _attention(aten._scaled_dot_product_efficient_attention.default, named)
    assert efficient["args"] == [1, 2, 3] and efficient["kwargs"] == {"attn_mask": 4}
    assert _attention(aten._scaled_dot_product_flash_attention_backward.default, named) == {}
    assert _attention(aten.mm.default, {}) == {}


class Boxed(nn.Module):
    """A model whose input no file can hold, though its calls can be made again."""

    def forward(self, box: object) -> torch.Tensor:
        return torch.ones(4).relu() * len(str(box))


def make_box() -> tuple[object]:
    return (Path("box"),)


def test_a_model_whose_inputs_no_file_can_hold_has_its_calls_recorded(tmp_path: Path) -> None:
    here = "tests.tasks.test_trace"
    names = {"model": f"{here}.Boxed", "inputs": f"{here}.make_box", "name": "boxed"}
    (row,) = run_cell(cell(job="trace", into=str(tmp_path), **names), STATE).rows
    assert row.status == "ok", row.reason
    content = yaml.safe_load((tmp_path / "workload" / "boxed.yaml").read_text())
    whole, *calls = content["boxed"]["calls"]
    assert "PosixPath" in whole["reason"] or "WindowsPath" in whole["reason"]
    assert "relu_1" in [call["name"] for call in calls]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16])
def test_numbers_of_dtypes_without_an_order_are_not_described(dtype: torch.dtype) -> None:
    said = described(torch.zeros(2, 3).to(dtype), torch.float32)
    assert said == {"shape": [2, 3], "dtype": str(dtype).removeprefix("torch.")}
