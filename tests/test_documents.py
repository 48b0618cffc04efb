"""README and its companions: links lead somewhere, and the commands that they show name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_commands_name_files_that_exist(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert all((document.parent / link).exists() for link in links), links
    named = re.findall(r"(?<![\w/.])((?:configs|tools|demo|datasets)/[\w./+-]+\.(?:py|yaml))", text)
    missing = sorted({name for name in named if not (ROOT / name).exists()})
    assert not missing


@pytest.mark.parametrize("config", sorted(ROOT.glob("configs/*/*.yaml")), ids=lambda path: path.name)
def test_commands_in_config_headers_name_the_config_itself(config):
    name = config.relative_to(ROOT).as_posix()
    header = re.split(r"^_BASE_|^name:", config.read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
    command = f"tools/run_grid.py {name}" if config.parent.name == "grids" else f"--config-file {name} "
    assert command in header


def test_the_site_lists_pages_that_exist():
    pages = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert "README.md" in pages and "losses.md" in pages
    missing = [page for page in pages if not ((ROOT / page).is_file() or (ROOT / "docs" / page).is_file())]
    assert not missing
