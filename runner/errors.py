"""The one error that is the user's to correct, and what is made of others."""

import re
from collections.abc import Sequence

UNSUPPORTED = "not implemented for|not supported|unsupported|doesn't support"  # in the words of PyTorch's own errors
OPERANDS = "unsupported operand type"  # in Python's words: an error of whoever wrote the operation


class ConfigError(Exception):
    """The configuration is wrong: the message says what came, what is allowed and what to do. Exit code 2."""


def is_unsupported(error: BaseException | None) -> bool:
    """Whether PyTorch says that it does not have an operation for a dtype or a device."""
    if isinstance(error, NotImplementedError):
        return True
    text = str(error).lower()
    return (
        isinstance(error, RuntimeError | TypeError)
        and OPERANDS not in text
        and bool(re.search(UNSUPPORTED, text))
    )


def one_line(text: object, limit: int = 300) -> str:
    """Fold a message into a single line of at most ``limit`` characters, as a CSV or a log wants it."""
    encodable = str(text).encode("utf-8", "replace").decode()
    line = " ".join(
        "".join(letter if letter.isprintable() else " " for letter in encodable).split()
    )
    return line if len(line) <= limit else line[: limit - 3] + "..."


def suggestion(word: str, allowed: list[str]) -> str:
    """``" (did you mean 'matmul'?)"`` where one of ``allowed`` is close to ``word``, otherwise nothing."""
    near = closest(word, allowed)
    return f" (did you mean {near!r}?)" if near else ""


def closest(word: str, allowed: Sequence[str]) -> str:
    """The one of ``allowed`` that ``word`` begins or is close to; blank where there is none."""
    import difflib

    begun = [one for one in allowed if len(word) > 2 and one.startswith(word)]
    return next(iter(begun or difflib.get_close_matches(word, allowed, n=1)), "")
