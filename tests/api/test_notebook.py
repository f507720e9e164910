"""The notebook of the documentation, run from its first cell to its last."""

import shutil
from itertools import chain
from pathlib import Path

import pytest

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="pip install -e '.[notebook]'")
nbclient = pytest.importorskip("nbclient", reason="pip install -e '.[notebook]'")


@pytest.mark.exhaustive
def test_the_notebook_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    path = shutil.copy(ROOT / "docs" / "notebook.ipynb", tmp_path)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = chain.from_iterable(cell.get("outputs", ()) for cell in notebook.cells)
    shown = [output["data"]["text/plain"] for output in outputs if "data" in output]
    time, compared, values, gradients, checks, frame = shown
    assert "samples" in time and "by_hand against" in compared
    assert "True" in values and "pass" in gradients
    assert "finite_differences" in checks or "forward_mode" in checks
    # as words: the flag multimodal, which a busy machine raises, begins like an operation
    assert frame.split().count("add") == frame.split().count("mul") == 2
