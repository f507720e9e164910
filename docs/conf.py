"""The settings of Sphinx, which ``make docs`` runs."""

import re
from pathlib import Path

from docutils import nodes

project = "opsweep"
author = "the opsweep developers"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "opsweep"
exclude_patterns = ["_build"]

HERE = Path(__file__).parent
OF_RUN = "_pages/outputs"  # the page of outputs/, which is no folder of docs/


def setup(app):
    """Sphinx calls this once, before it reads the pages."""
    text = (HERE.parent / "outputs" / "README.md").read_text(encoding="utf-8")
    page = HERE / f"{OF_RUN}.md"
    page.parent.mkdir(exist_ok=True)
    text = text.replace("](../docs/", "](../").replace("](example/", "](../../outputs/example/")
    page.write_text(text, encoding="utf-8")
    app.connect("source-read", _prepared)
    app.connect("doctree-read", _know_anchors)


def _prepared(app, docname, source):
    """Links out of ``docs/`` lead to copies, and the table of contents becomes the menu.

    That page stays plain Markdown, which any viewer shows; each of its sections is a part of the
    menu, in the order of its links.
    """
    text = re.sub(r"\]\(((?:\.\./)*)\.\./outputs/README\.md", rf"](\1{OF_RUN}.md", source[0])
    text = re.sub(r"\]\(((?:\.\./)+outputs/example/report\.md)", r"](path:\1", text)
    if docname == "index":
        for section in text.split("\n## ")[1:]:
            pages = "\n".join(re.findall(r"\]\(([\w/]+)\.md\)", section))
            caption = section.partition("\n")[0]
            text += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"
    source[0] = text


def _know_anchors(app, doctree):
    """Anchors of columns are HTML, which GitHub follows too; links to them are checked as well."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for node in doctree.findall(nodes.raw):
        for name in re.findall(r'<a id="([^"]+)">', node.astext()):
            slugs[name] = (0, name, name)
