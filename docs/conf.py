"""The settings of Sphinx, which ``make docs`` runs."""

project = "opsweep"
author = "the opsweep developers"
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "opsweep"
exclude_patterns = ["_build"]
