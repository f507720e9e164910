"""An operation or a case made callable: its inputs drawn, its function bound or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Thunk = Callable[[], Any]
"""A call with its arguments settled, ready to be made again and again."""
