"""A row with other values is the one that ``dataclasses.replace`` makes, for every kind of row."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.rows.columns import filled, packed
from runner.rows.rows import ROW_OF_JOB, BenchmarkRow, identified, with_values
from tests.support.factories import cell, row

ADD = cell("add")


@pytest.mark.parametrize("job", ROW_OF_JOB)
@given(data=st.data())
def test_a_row_with_other_values_is_what_replace_makes(job: str, data: st.DataObject) -> None:
    kind = ROW_OF_JOB[job]
    before = identified(kind, ADD)
    names = st.sampled_from([field.name for field in fields(kind)])
    values = st.none() | st.integers() | st.floats(allow_nan=False) | st.text()
    changes = data.draw(st.dictionaries(names, values))
    after = with_values(before, **changes)
    assert type(after) is kind
    assert after == replace(before, **changes)
    assert before == identified(kind, ADD)


def test_a_column_that_a_row_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="BenchmarkRow has no medain_s"):
        with_values(row(), medain_s=1.0)


def test_a_row_that_was_read_has_its_blank_columns_afterwards_too() -> None:
    names = [field.name for field in fields(BenchmarkRow)]
    (read,) = filled(BenchmarkRow, dict(zip(names, packed([row()]), strict=True)))
    assert "reason" not in vars(read)
    assert with_values(read, threads=3) == row(threads=3)
