"""Every notebook runs from top to bottom, and was committed as it runs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))

# What takes minutes with settings worth looking at takes seconds with these.
REPLACEMENTS = {
    "02_what_a_neuron_sees_in_a_class": {"SIZE, STEPS = 192, 150": "SIZE, STEPS = 96, 10"},
    "03_mending_a_false_correlation": {"SIZE, STEPS = 160, 250": "SIZE, STEPS = 96, 10"},
    "04_your_own_model_and_photos": {
        "N_PHOTOS, SIZE, STEPS = 16, 160, 100": "N_PHOTOS, SIZE, STEPS = 6, 96, 5"
    },
    "05_in_a_captum_workflow": {"N_PHOTOS, N_STEPS = 24, 20": "N_PHOTOS, N_STEPS = 6, 4"},
    "06_vits_and_hugging_face_models": {"N_EPOCHS, N_STEPS = 60, 200": "N_EPOCHS, N_STEPS = 15, 5"},
    "07_reproducing_the_paper": {
        '\\"size\\": 128, \\"n_steps\\": 80': (
            '\\"networks\\": \\"tiny\\", \\"size\\": 32, \\"n_steps\\": 4'
        ),
        '\\"n_train\\": 40': '\\"n_train\\": 8, \\"n_validation\\": 4, \\"n_test\\": 4',
    },
    "08_neurons_in_words": {"N_CROPS = 24": "N_CROPS = 8"},
    "09_a_whole_network": {"n_steps=40, size=96": "n_steps=2, size=32"},
}


# Notebook kernels talk over sockets whose libraries warn of what is none of our business.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    """A cell that raises fails the test, with its traceback."""
    text = path.read_text(encoding="utf-8")
    for original, replacement in REPLACEMENTS.get(path.stem, {}).items():
        assert original in text, f"{path.name} no longer has {original!r}"
        text = text.replace(original, replacement)
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}  # nothing is left beside the notebook
    NotebookClient(notebook, timeout=900, resources=resources).execute()
    kinds = [out["output_type"] for cell in notebook.cells for out in cell.get("outputs", [])]
    assert kinds
    assert "error" not in kinds
