"""A device that is not there, or cannot be used, and why."""

import warnings

import pytest
import torch

from runner.errors import is_unsupported
from runner.execute.cell_run import _status_of
from runner.measure.device import DeviceUnavailable, KnownOfDevices, find_device


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
