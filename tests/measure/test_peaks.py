"""The machine's own peaks: kept for later runs, and what a row makes of them."""

from dataclasses import replace

import pytest
import torch

from runner.measure.device import Device
from runner.measure.peaks import SAVED, Peaks, find_peaks, identity_of, save_peaks
from tests.support.factories import cell, ran

CPU = Device(torch.device("cpu"))
PEAKS = Peaks("host", "cpu X", "float32", 2, "2.9", "full", flop_per_s=100.0, bytes_per_s=10.0)


def test_the_fraction_is_of_the_roof_under_which_the_work_takes_longer() -> None:
    assert PEAKS.fraction(1000, 50, 20.0) == (0.5, "compute")  # 10 s of computing, 5 s of moving
    assert PEAKS.fraction(100, 50, 20.0) == (0.25, "memory")
    assert PEAKS.fraction(None, 50, 20.0) == (0.25, "memory")
    assert PEAKS.fraction(None, 50, 2.5) == (2.0, "memory")  # from a cache
    assert PEAKS.fraction(None, 0, 20.0) is None  # a view moves nothing
    assert PEAKS.fraction(1000, None, 20.0) is None


def test_a_kept_roof_is_found_again_and_measuring_again_replaces_it() -> None:
    assert SAVED.read() == []
    save_peaks(PEAKS)
    save_peaks(replace(PEAKS, dtype="float16"))
    save_peaks(replace(PEAKS, flop_per_s=0.1 + 0.2))
    assert sorted(SAVED.read(), key=lambda roof: roof.dtype) == [
        replace(PEAKS, dtype="float16"),
        replace(PEAKS, flop_per_s=0.1 + 0.2),
    ]


@pytest.mark.parametrize("text", ["", "nonsense\n1,2\n", "host,device_name\nx,y\n"])
def test_a_damaged_file_holds_no_roofs_and_is_replaced(text: str) -> None:
    SAVED.path.parent.mkdir(parents=True)
    SAVED.path.write_text(text)
    assert SAVED.read() == []
    save_peaks(PEAKS)
    assert SAVED.read() == [PEAKS]


def test_a_roof_holds_for_its_machine_device_dtype_threads_version_and_precision_alone() -> None:
    known = cell("add")
    own = Peaks(**identity_of(known, CPU), flop_per_s=1.0, bytes_per_s=1.0)
    others = {
        "host": "x",
        "device_name": "x",
        "dtype": "int8",
        "threads": 99,
        "torch": "x",
        "products": "bf16",
    }
    for key, value in others.items():
        save_peaks(replace(own, **{key: value}))  # type: ignore[arg-type]
    assert find_peaks(known, CPU) is None
    save_peaks(own)
    assert find_peaks(known, CPU) == own


def test_a_row_says_how_near_its_roof_it_comes() -> None:
    assert ran("add", size=64).fraction_of_peak is None
    save_peaks(Peaks(**identity_of(cell("add"), CPU), flop_per_s=1e12, bytes_per_s=1e11))
    found = ran("add", size=64)
    assert found.bound == "memory"
    assert found.median_s and found.fraction_of_peak == pytest.approx(
        3 * 4 * 64**2 / 1e11 / found.median_s
    )
    product = ran("matmul", size=128)
    assert product.bound == "compute"
    assert product.median_s and product.fraction_of_peak == pytest.approx(
        2 * 128**3 / 1e12 / product.median_s
    )
    for blank in (
        ran("transpose", size=64),
        ran("add", size=64, direction="backward"),
        ran("add", size=8, threads=1),
    ):
        assert (blank.status, blank.fraction_of_peak, blank.bound) == ("ok", None, None)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e300", "many"])
def test_a_peak_that_no_machine_has_is_not_believed_and_the_others_are(value: str) -> None:
    save_peaks(PEAKS)
    with SAVED.path.open("a") as file:
        file.write(f"other,cpu X,float32,2,2.9,full,{value},10.0\n")
    assert SAVED.read() == [PEAKS]


def test_a_file_that_anybody_can_write_is_not_believed() -> None:
    save_peaks(PEAKS)
    SAVED.path.chmod(0o666)
    assert SAVED.read() == []


def test_what_computes_faster_than_the_machine_can_is_flagged() -> None:
    peaks = Peaks(**identity_of(cell("matmul"), CPU), flop_per_s=1e3, bytes_per_s=1e12)
    save_peaks(peaks)
    assert "above_peak" in ran("matmul", size=64).flags
    assert "above_peak" not in ran("add", size=64, direction="both").flags
    save_peaks(replace(peaks, flop_per_s=1e15, bytes_per_s=1e3))  # of a cache: that can be
    assert "above_peak" not in ran("matmul", size=64).flags


def test_a_file_that_has_not_changed_is_not_read_again_and_another_one_is() -> None:
    save_peaks(PEAKS)
    (first,), (again,) = SAVED.read(), SAVED.read()
    assert first is again
    save_peaks(replace(PEAKS, host="tsoh"))  # as long as before
    assert [peaks.host for peaks in SAVED.read()] == ["host", "tsoh"]
    assert SAVED.read()[0] is not first
    SAVED.read().clear()
    assert len(SAVED.read()) == 2
    SAVED.path.chmod(0o666)
    assert SAVED.read() == []
    SAVED.path.unlink()
    assert SAVED.read() == []
