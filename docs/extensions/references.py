"""Links from docstrings and signatures to the page that documents a name.

A name of the top level is documented with the package that it comes from. A type that only a
signature names, and that no package exports, stays plain text; in a sentence it is an error.
"""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from sphinx import addnodes

TOP = "captum_neuroinspect"


def is_of_a_signature(node: nodes.Node) -> bool:
    """Whether a reference is a type hint or a base class, not written by a person."""
    above: nodes.Node | None = node
    while above is not None and not isinstance(above, nodes.paragraph | addnodes.desc_signature):
        above = above.parent
    in_text = isinstance(above, nodes.paragraph)
    return not in_text or above.astext().startswith("Bases: ")


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Look a name of the top level up in its package."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith(f"{TOP}."):
        return None
    first, _, rest = target.removeprefix(f"{TOP}.").partition(".")
    package = importlib.import_module(TOP)._MODULE_OF.get(first)
    if package:
        name = ".".join(filter(None, [TOP, package, first, rest]))
        domain = env.get_domain("py")
        found = domain.resolve_xref(
            env, node["refdoc"], app.builder, node["reftype"], name, node, contnode
        )
        if found is not None:
            return found
    return contnode if is_of_a_signature(node) else None


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
