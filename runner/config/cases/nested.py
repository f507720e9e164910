"""Nested lists of numbers, as YAML holds tensors: their shape, and whether they have one."""

from __future__ import annotations

from runner.errors import ConfigError

KINDS = (bool, int, float)
MOST_NUMBERS = 10_000  # written out: more belongs into an operation, whose inputs are drawn


def shape_of(value: object) -> tuple[int, ...]:
    """The shape of a nested list; a number's is ``()``.

    >>> shape_of([[1, 2, 3], [4, 5, 6]])
    (2, 3)
    """
    return (len(value), *shape_of(value[0])) if isinstance(value, list | tuple) and value else ()


def check_nested(where: str, value: object) -> None:
    """Check that a value is a number, a truth value or a nested list of them, of one shape."""
    numbers = _count(value, shape_of(value))
    if numbers is None:
        raise ConfigError(
            f"{where}: {str(value)[:60]} is neither a number nor a "
            "nested list of numbers, or truth values, of one shape"
        )
    if numbers > MOST_NUMBERS:
        raise ConfigError(
            f"{where}: {numbers} numbers; at most {MOST_NUMBERS}, "
            "since an operation's inputs are drawn"
        )


def is_number(value: object) -> bool:
    """Whether a value is a number and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def kind_of(value: object) -> type:
    """What a nested list of one shape holds: bool, int or float, the widest of them."""
    if isinstance(value, list | tuple):
        return max(map(kind_of, value), key=KINDS.index, default=float)
    return type(value)


def _count(value: object, shape: tuple[int, ...]) -> int | None:
    """How many numbers a nested list of this shape holds; None where it is not of this shape."""
    if not shape:
        return 1 if isinstance(value, int | float) else None
    if not isinstance(value, list | tuple) or len(value) != shape[0]:
        return None
    counts = [_count(item, shape[1:]) for item in value]
    return None if None in counts else sum(filter(None, counts))
