"""How Sphinx builds these pages: `python -m sphinx -W -b html docs OUTPUT`."""

import tomllib
from pathlib import Path

project = "healthlb"
author = "the healthlb authors"
copyright = author
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"healthlb {release}"
# What `](page.md#heading)` may point to, as on GitHub.
myst_heading_anchors = 3

# Single backticks in docstrings are code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
