"""Templates of pages: everything is escaped, and nothing may be missing."""

from __future__ import annotations

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined


def page_templates(package: str, *, bytecode_cache: BytecodeCache | None = None) -> Environment:
    """Those in the folder ``templates`` of a package.

    Args:
        package: its name.
        bytecode_cache: keeps what was compiled.

    Examples::

        >>> page_templates("captum_neuroinspect.scale.site").from_string("{{ a }}").render(a="<b>")
        '&lt;b&gt;'
    """
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=bytecode_cache,
    )
