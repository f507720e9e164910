"""Which values of a parametrised test are for ``make test-slow`` alone."""

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Values whose behaviour a cheaper test pins too, or that take minutes."""
    return pytest.param(*values, marks=pytest.mark.slow)
