"""A run's end: what its cells left is put together, shown, and printed where programs read it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from omegaconf import DictConfig

from runner.config.schema import Compare, Report
from runner.execute.progress import announced
from runner.report.as_json import for_programs, run_as_json
from runner.report.conclude import conclude, load_run


def concluded(
    root: Path,
    report: Report,
    config: DictConfig,
    *,
    quiet: bool,
    measured: bool = True,
    explicit: Collection[str] = (),
    judge: Callable[[int], int] | None = None,
) -> int:
    """The exit code of a run once it is shown: what ``judge`` makes of that of its rows.

    That decides in the place of ``compare.gate``. The others are for
    :func:`runner.report.conclude.conclude`.
    """
    settings = Compare.of(config)
    at_work = announced("putting the report together", quiet=quiet)
    with for_programs(config.output) as is_json:
        with at_work as stop:
            code = conclude(
                root,
                report,
                strict=config.strict,
                unclear_exit=settings.unclear_exit,
                gate=settings if settings.gate and judge is None else None,
                measured=measured,
                explicit=explicit,
                quiet=quiet,
                before_printing=stop,
            )
        code = judge(code) if judge else code
    if is_json:
        print(run_as_json(root, code, load_run(root)))
    return code
