"""The report's words in each of its languages, from the YAML file of each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from runner.rows.flags import FLAGS

Words = Mapping[str, str]


@cache
def words_of(language: str) -> Words:
    """All of the report's words in a language, one of :data:`runner.config.schema.LANGUAGES`."""
    path = Path(__file__).with_name(f"{language}.yaml")
    words: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if language == "en":
        words |= {f"flag_{name}": flag.why for name, flag in FLAGS.items()}
    return words


def templates_of(words: Words) -> dict[str, str]:
    """A language's sentences of the answers, by the keys of ``runner.analysis.sentence``."""
    return {key.removeprefix("say_"): text for key, text in words.items() if key.startswith("say_")}
