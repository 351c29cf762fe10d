"""Settings of the documentation site: `make docs` builds it into build/docs, without a network."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import geosynth

project, author, release = "geosynth", "The geosynth authors", geosynth.__version__
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

html_theme = "furo"
html_title = f"geosynth {release}"
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # links to headings are those of GitHub

# Docstrings are plain text with `code` in single backticks.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = False  # the settings that `takes` shows stand in no source
python_maximum_signature_line_length = 88


ROOT = Path(__file__).parents[1]

# Pages that stand elsewhere in the repository, where readers of the code look for them.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "geosynth/weights/MODEL_CARD.md": "model_card.md",
}


def include_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Put pages that stand elsewhere into the site, and lead links between files of the repository to their pages."""
    page_folder = folder = (ROOT / "docs" / page).parent

    def lead(link: re.Match[str]) -> str:
        path, anchor = link.group(1), link.group(2) or ""
        target = (folder / path).resolve()
        if ":" in path or not target.is_relative_to(ROOT):
            return link.group()
        name = target.relative_to(ROOT).as_posix()
        there = ROOT / "docs" / ELSEWHERE[name] if name in ELSEWHERE else target
        return f"]({Path(os.path.relpath(there, page_folder)).as_posix()}{anchor})"

    text = source[0]
    if include := re.match(r"```{include} \.\./(.+)\n```\n", text):
        file = ROOT / include.group(1)
        app.env.note_dependency(str(file))
        folder = file.parent
        text = file.read_text(encoding="utf-8") + text[include.end() :]
    source[0] = re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", lead, text)


def write_command_reference(app: Sphinx) -> None:
    """The pages of `--help`, as typer writes them in Markdown."""
    page = Path(app.srcdir) / "commands.md"
    typer = Path(sys.executable).with_name("typer")
    described = [typer, "--app", "_typer", "geosynth_cli.main", "utils", "docs", "--name", "geosynth"]
    text = html.unescape(subprocess.run(described, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    text = re.sub(r"\*\*Commands\*\*:\n\n.*?\n\n(?=## `geosynth )", "", text, flags=re.DOTALL)  # cut short there
    text = text.replace("# `geosynth`\n", "# Commands\n", 1)
    if not page.is_file() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def plain_signature(app: Sphinx, what: str, name: str, found: object, options: object, text: str, result: str) -> Any:
    """Settings list their fields below; types go without pydantic's checks, defaults without functions."""
    if not text or (what == "class" and name.endswith("Settings")):
        return ("", None) if text else None
    while "Annotated[" in text:
        start = text.index("Annotated[")
        first = start + len("Annotated[")
        depth, end, comma = 1, first, 0
        while depth:
            depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(text[end], 0)
            comma = comma or (end if text[end] == "," and depth == 1 else 0)
            end += 1
        text = text[:start] + text[first:comma] + text[end:]
    return re.sub(r"<function (?:<\w+>|[\w.])+(?: at 0x\w+)?>", "...", text), result


def setup(app: Sphinx) -> None:
    """Sphinx calls this once."""
    app.connect("builder-inited", write_command_reference)
    app.connect("source-read", include_pages)
    app.connect("autodoc-process-signature", plain_signature)
