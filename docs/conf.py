"""How the documentation is built: ``tox -e docs``, which says how by hand."""

from __future__ import annotations

from importlib.metadata import version as version_of

from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "meshproto"
author = "The meshproto authors"
copyright = author
release = version_of("meshproto")
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
]
exclude_patterns = ["_build"]

html_theme = "alabaster"
html_theme_options = {
    "description": "The peer mesh that you embed in Python",
    "fixed_sidebar": True,
}
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Single backticks in our docstrings name something of ours.
default_role = "py:obj"

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

doctest_global_setup = "from meshproto import *"

nitpicky = True
nitpick_ignore_regex = [
    # No build reaches for the network, so what others document is not linked.
    (r"py:.*", r"(twisted|zope|collections|enum|ipaddress|random|asyncio)\..*"),
    # What annotations show of our own house; it has no page of its own.
    (r"py:.*", r"meshproto\.(testing\.)?(_\w+|wire|interfaces|session|registry)\..*"),
    (r"py:class", r"Target"),
    # A zope interface, which Sphinx cannot spell.
    (r"py:.*", r".*<InterfaceClass .*"),
]


def setup(app: Sphinx) -> None:
    """Let a docstring anywhere name what is public: `NodeConfig`, `MeshNode.stop()`."""

    def find_public(
        app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element
    ) -> Element | None:
        if node.get("refdomain") != "py":
            return None
        name = node["reftarget"].removesuffix("()")
        return env.domains.python_domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", f"meshproto.{name}", node, shown
        )

    app.connect("missing-reference", find_public)
