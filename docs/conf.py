"""How the documentation is built: ``tox -e docs``, which says how by hand."""

from __future__ import annotations

import re
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

# The pages are plain Markdown, so that they read well where nothing is built.
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
    (r"py:.*", r"meshproto\.(testing\.)?(_\w+|wire|rules|link|mesh|interfaces)\..*"),
    (r"py:class", r"Target"),
    # A zope interface, which Sphinx cannot spell.
    (r"py:.*", r".*<InterfaceClass .*"),
]


def setup(app: Sphinx) -> None:
    """What the pages and the docstrings need beside the extensions."""

    def find_public(
        app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element
    ) -> Element | None:
        """A docstring may name all that is public: `NodeConfig`, `MeshNode.stop()`."""
        if node.get("refdomain") != "py":
            return None
        name = node["reftarget"].removesuffix("()")
        return env.domains.python_domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", f"meshproto.{name}", node, shown
        )

    def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
        """The menu is the list of pages that the first page has."""
        if page == app.config.root_doc:
            pages = re.findall(r"^\* \[.*?\]\(([\w-]+)\.md\)", source[0], re.MULTILINE)
            source[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"

    app.connect("missing-reference", find_public)
    app.connect("source-read", add_contents)
