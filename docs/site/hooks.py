"""What MkDocs is told beyond mkdocs.yml: pages from outside docs/, pages of the reference, links of the repository.

The documents are written for the repository, where they link to one another, to configs and to scripts by relative
paths. On the site a page of docs/ lies at the top, every other one where it lies in the repository. What a page links
to that is no page is put on the site as it is.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ("*.md", "datasets/*.md", "epl_d2/model_zoo/checkpoints/**/*.md")

_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LIST_AT_ONCE = re.compile(r"^((?![-*] |#|\||>|\s).+)\n(?=[-*] )", re.MULTILINE)
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_ROLE = re.compile(r":(?:func|class|meth|mod):(?=<code>)")  # of Sphinx, in docstrings


def on_files(files: Files, config: Any) -> Files:
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        files.append(_of_repository(path, config))
    for module in config.extra["reference"]:
        text = f"# {module}\n\n::: {module}\n"
        files.append(File.generated(config, f"reference/{module}.md", content=text))
    _complete_navigation(config, [file.src_uri for file in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    here = page.file.src_uri
    folder = posixpath.dirname(_in_repository(here))

    def as_on_site(match: re.Match[str]) -> str:
        link, anchor = re.fullmatch(r"([^#]*)(#.*)?", match[0]).groups(default="")
        if not link or "://" in link or link.startswith("mailto:"):
            return match[0]
        target = posixpath.normpath(posixpath.join(folder, link))
        uri = target.removeprefix("docs/")
        if files.get_file_from_path(uri) is None and (ROOT / target).is_file():
            files.append(_of_repository(ROOT / target, config))
        return posixpath.relpath(uri, posixpath.dirname(here) or ".") + anchor

    return _outside_fences(markdown, lambda text: _lists_as_on_site(_LINK.sub(as_on_site, text)))


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    return _ROLE.sub("", html)


def _in_repository(uri: str) -> str:
    return uri if (ROOT / uri).is_file() else f"docs/{uri}"


def _of_repository(path: Path, config: Any) -> File:
    return File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=os.fspath(path))


def _complete_navigation(config: Any, pages: list[str]) -> None:
    """Add the pages of the reference, and those that nobody has listed."""
    sections = {name: content for entry in config.nav for name, content in entry.items()}
    sections["Reference"] += [{module: f"reference/{module}.md"} for module in config.extra["reference"]]
    listed = {
        page for content in sections.values() if isinstance(content, list) for e in content for page in e.values()
    }
    for page in sorted({*pages} - listed - {sections["Overview"]}):
        section = "Results" if page.startswith("epl_d2/model_zoo/") else "Guide"
        title = re.search(r"^# (.+)$", (ROOT / _in_repository(page)).read_text(encoding="utf-8"), re.MULTILINE)
        sections[section].append({title[1] if title else page: page})


def _lists_as_on_site(text: str) -> str:
    """Lists as Python-Markdown reads them: with an empty line before, and what belongs to an item 4 columns in."""
    lines, deeper = [], 0
    for line in _LIST_AT_ONCE.sub(r"\1\n\n", text).split("\n"):
        if item := _ITEM.match(line):
            deeper = 4 - len(item[0])
        elif line and line[0] != " ":
            deeper = 0
        lines.append(" " * deeper + line if line.startswith("  ") else line)
    return "\n".join(lines)


def _outside_fences(markdown: str, change: Any) -> str:
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])
