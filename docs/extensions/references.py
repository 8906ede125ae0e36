"""Links from docstrings and signatures to the page that documents a name.

A name of the top level is documented with the package that it comes from, and a name that only one
package has may be written alone. A type that only a signature names, and that no package exports,
stays plain text; in a sentence a name of this package that leads nowhere is an error.
"""

from __future__ import annotations

import importlib
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

TOP = "captum_neuroinspect"

logger = logging.getLogger(__name__)


def is_of_a_signature(node: nodes.Node) -> bool:
    """Whether a reference is a type hint, not written by a person."""
    above: nodes.Node | None = node
    while above is not None and not isinstance(above, nodes.paragraph | addnodes.desc_signature):
        above = above.parent
    return not isinstance(above, nodes.paragraph)


def full_name(env: Any, target: str) -> str | None:
    """The name under which a short one, or one of the top level, is documented."""
    first, _, rest = target.removeprefix(f"{TOP}.").partition(".")
    package = importlib.import_module(TOP)._MODULE_OF.get(first)
    if package:
        return ".".join(filter(None, [TOP, package, first, rest]))
    found = [
        name
        for name, entry in env.get_domain("py").objects.items()
        if name.endswith(f".{target}") and not entry.aliased
    ]
    return found[0] if len(found) == 1 else None


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Look a name up that is not written in full."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    if node["reftype"] == "attr":  # fields are described with their class
        target = target.rpartition(".")[0] or node.get("py:class") or ""
    name = full_name(env, target)
    if name is not None:
        found = domain.resolve_xref(
            env, node["refdoc"], app.builder, node["reftype"], name, node, contnode
        )
        if found is not None:
            return found
    return contnode if is_of_a_signature(node) else None


def check_complete(app: Any, env: Any) -> None:
    """Warn of what a package exports and its page does not describe."""
    described = env.get_domain("py").objects
    for page in sorted(env.found_docs):
        if page.startswith("docs/api/"):
            face = f"{TOP}.{page.removeprefix('docs/api/')}"
            for name in importlib.import_module(face).__all__:
                if f"{face}.{name}" not in described and full_name(env, name) is None:
                    logger.warning("%s.%s is not described", face, name, location=page)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", check_complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
