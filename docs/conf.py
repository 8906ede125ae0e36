"""How the documentation becomes a site.

The pages are README.md, CHANGELOG.md, CONTRIBUTING.md, those of `docs/` and the notebooks, where
they lie, so that the links between them hold here and on a code host.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "extensions"))

project = "captum_neuroinspect"
author = "The captum_neuroinspect developers"
copyright = "2026, the captum_neuroinspect developers"
root_doc = "README"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "module_pictures",
    "references",
]
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "tutorials/*.ipynb"]
exclude_patterns = [
    ".*",
    "**/.*",
    "build",
    "captum_neuroinspect",
    "dist",
    "docs/extensions",
    "tests",
]

# Pages
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # `pytest tutorials` executes them
nb_merge_streams = True

# The reference
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # a dataclass's fields are described once
nitpicky = True
# What other projects document is not looked up: the site is built without a network.
nitpick_ignore_regex = [
    ("py:class|py:obj|py:exc", r"(?!captum_neuroinspect\.).*"),
    ("py:.*", r"(torch|captum|lucent|numpy|torchvision|timm|transformers|PIL|ray|tqdm)\..*"),
    # Types of fields that no package exports.
    ("py:class", r"captum_neuroinspect\.(.*\._|inspection\.preflight_checks\.).*"),
]

# The look: no fonts, scripts or styles from elsewhere.
html_theme = "furo"
html_title = project
html_static_path = ["extensions/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options: dict[str, Any] = {"navigation_with_keys": True}


# Pages that list others; the start page has the list of docs/README.md.
LISTS = {root_doc: "docs/README", "docs/measurements": "docs/measurements", "docs/api": "docs/api"}


def navigation(page: str, folder: str) -> str:
    """What a page lists as tables of contents: a heading is a caption.

    Entries are the links at the start of a list's points and of a table's rows.
    """
    parts = []
    for heading, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.M):
        links = re.findall(r"^(?:-|\|) \[(.+?)\]\(([^)#:]+)\)", body, re.MULTILINE)
        entries = []
        for title, link in links:
            place = f"/{os.path.normpath(os.path.join(folder, link))}"
            place = "self" if place == f"/{root_doc}.md" else place
            entries.append(f"{title.replace('`', '')} <{place}>")
        if entries:
            options = [":hidden:", f":caption: {heading}", ""]
            parts.append("\n".join(["```{toctree}", *options, *entries, "```"]))
    return "\n\n".join(parts)


def add_navigation(app: Any, docname: str, source: list[str]) -> None:
    """Add to a page the navigation that readers of the plain file do not need."""
    if docname in LISTS:
        page = ROOT / f"{LISTS[docname]}.md"
        source[0] += "\n\n" + navigation(page.read_text(encoding="utf-8"), "docs")
    if docname == root_doc:
        source[0] += "\n\n```{toctree}\n:hidden:\n\n/docs/README\n```"


def add_index(app: Any, error: Exception | None) -> None:
    """A folder is opened by its index.html."""
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("build-finished", add_index)
