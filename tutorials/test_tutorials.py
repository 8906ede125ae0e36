"""Every notebook runs from top to bottom, and was committed as it runs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))


# Notebook kernels talk over sockets whose libraries warn of what is none of our business.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    """A cell that raises fails the test, with its traceback."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}  # nothing is left beside the notebook
    NotebookClient(notebook, timeout=900, resources=resources).execute()
    kinds = [out["output_type"] for cell in notebook.cells for out in cell.get("outputs", [])]
    assert kinds
    assert "error" not in kinds
