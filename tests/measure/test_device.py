"""A device that is not there, or cannot be used, and why."""

import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from runner.errors import is_unsupported
from runner.execute.cell_run import _status_of
from runner.measure.device import Device, DeviceUnavailable, KnownOfDevices, find_device


def test_what_pytorch_says_of_a_missing_accelerator_is_in_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(check_available: bool) -> None:
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=2
        )

    monkeypatch.setattr(torch.accelerator, "current_accelerator", absent)
    with pytest.raises(DeviceUnavailable, match=r"only the CPU \(CUDA .* driver .* is too old\)"):
        find_device("gpu")


def test_an_accelerator_that_another_has_alone_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy(*args: object, **kwargs: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore")

    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "one of NVIDIA's")
    monkeypatch.setattr(torch, "ones", busy)
    with pytest.raises(DeviceUnavailable, match=r"gpu: cuda:0 cannot be used \(CUDA error: all"):
        find_device("gpu")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", "out_of_memory"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`", "unsupported"),
        (
            "torch._scaled_mm is only supported on CUDA devices with capability >= 9.0",
            "unsupported",
        ),
        ("CUDA error: an illegal memory access was encountered", "failed"),
    ],
)
def test_an_error_of_cuda_has_the_status_that_it_means(text: str, status: str) -> None:
    assert _status_of(RuntimeError(text)) == status
    assert is_unsupported(RuntimeError(text)) is (status == "unsupported")


def test_a_worker_has_a_clock_of_its_host_for_each_way_of_counting() -> None:
    known = KnownOfDevices()
    first, second = (find_device("cpu", known=known) for _ in range(2))
    assert first.clock(2) is second.clock(4)
    assert first.clock(1) is second.clock(1) is not first.clock(2)
    assert first.clock(1).time(lambda: None, 1).cpu_s is not None
    assert first.clock(2).time(lambda: None, 1).cpu_s is None


def test_nvml_is_not_asked_of_another_makers_card(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    card = Device(torch.device("cpu"))
    card.torch = torch.device("cuda", 0)  # under which PyTorch has them
    card._module = SimpleNamespace(get_device_properties=lambda of: SimpleNamespace(uuid="x"))
    assert card.identity()["uuid"] == "x"
    assert "clock, power and energy are not known" not in capsys.readouterr().err


def test_a_value_that_pytorch_has_no_product_for_is_unsupported_and_another_a_failure() -> None:
    assert is_unsupported(ValueError("Multiplication of two Float8_e5m2 matrices is not supported"))
    assert is_unsupported(RuntimeError("self.size(0) needs to be greater than 16, but got 8"))
    assert not is_unsupported(ValueError("step must be greater than zero"))
