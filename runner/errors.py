"""The error that is the user's to correct, what is made of others, and what people are told."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

# in the words of PyTorch's own errors, and in Python's for an error of whoever wrote the operation
UNSUPPORTED = (
    "not implemented for|not[ _]supported|only supported|unsupported|doesn't support|"
    "deterministic implementation|incompatible with \\.grad|the derivative of|_backward: |"
    "needs to be greater than 16"
)
NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
OF_PYTORCH = (RuntimeError, TypeError, ValueError, AssertionError)  # the kinds of its errors
MISTAKES = ("unsupported operand type", "single memory location")  # the operation's own
NEAR = 0.65  # by difflib's measure, from 0 to 1; ray is so near to rai, but normal not to no_grad
LISTED_AT_MOST = 20  # names in a message
LONGEST_TEXT = 10_000  # characters of what somebody else's code or file says


class ConfigError(Exception):
    """The configuration is wrong: the message says what came, what is allowed and what to do."""


class CellFailed(Exception):
    """A cell failed or crashed, as its row says: for Hydra's callbacks and stock sweepers."""


def is_unsupported(error: BaseException | None) -> bool:
    """Whether PyTorch says that it does not have an operation for a dtype or a device."""
    if isinstance(error, NotImplementedError):
        return True
    text = text_of(error).lower()
    mistaken = any(words in text for words in MISTAKES)
    is_kind = isinstance(error, OF_PYTORCH) and not mistaken
    return is_kind and re.search(UNSUPPORTED, text) is not None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory: PyTorch has several errors for that."""
    said = text_of(error)
    return isinstance(error, MemoryError) or any(words in said for words in NO_MEMORY)


def text_of(error: object) -> str:
    """What an error, or anything else, says of itself; of a long text its beginning."""
    try:
        return str(error)[:LONGEST_TEXT]
    except BaseException as problem:  # its text is a function of its own
        return f"(its text cannot be had: {type(problem).__name__})"


def one_line(text: object, limit: int = 300) -> str:
    """A message as a single line of at most ``limit`` characters, for a CSV or a log."""
    encodable = text_of(text).encode("utf-8", "replace").decode()
    shown = (letter if letter.isprintable() else " " for letter in encodable)
    line = " ".join("".join(shown).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def printable(text: str, limit: int = LONGEST_TEXT) -> str:
    r"""A text without what a terminal or a browser would act upon: such signs as their escapes.

    >>> printable("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    shown = text if len(text) <= limit else text[: limit - 3] + "..."
    if shown.isprintable():
        return shown
    kept = ("\N{NO-BREAK SPACE}",)  # between the digits of a number in some languages
    signs = (
        s if s.isprintable() or s in kept else s.encode("unicode_escape").decode() for s in shown
    )
    return "".join(signs)


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """``" (did you mean 'matmul'?)"`` where one of ``allowed`` is close to ``word``, or nothing."""
    near = closest(word, list(allowed))
    return f" (did you mean {near!r}?)" if near else ""


def unknown(what: str, word: str, allowed: Iterable[str]) -> ConfigError:
    """``what`` is not allowed because of ``word``; the message names what is."""
    names = list(allowed)
    return ConfigError(f"{what}{suggestion(word, names)}; allowed: {', '.join(names)}")


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the place of a wrong value before the message of its error."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def closest(word: str, allowed: Sequence[str]) -> str:
    """The one of ``allowed`` that ``word`` begins, stands in or is close to; blank: there is none.

    >>> closest("attention", ["addition", "scaled_dot_product_attention"])
    'scaled_dot_product_attention'
    """
    within = [name for name in allowed if len(word) > 2 and word in name]
    begun = [name for name in within if name.startswith(word)]
    return next(iter(begun or within or get_close_matches(word, allowed, 1, NEAR)), "")


def first_names(names: Sequence[str]) -> str:
    """The first of several names, for a message in which all of them would be too many."""
    more = len(names) - LISTED_AT_MOST
    return ", ".join([*names[:LISTED_AT_MOST], *([f"and {more} more"] if more > 0 else [])])


def tell(*lines: object) -> None:
    """Print for people, at once; standard output is for results."""
    # in one piece, or what another stream writes into the same file could come in between
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()
