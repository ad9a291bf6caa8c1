"""The site builds strictly: every page has its place, every link and anchor leads somewhere, nothing is loaded from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.doc_blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    # Not --quiet: what is not said is not counted, and --strict finds nothing.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    # A note of the theme's makers about its successor, which strict mode does not mean.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    warnings = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
    assert done.returncode == 0, "\n".join(warnings)
    return target


def test_every_page_is_built(site: Path):
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.parent.relative_to(site) for page in site.rglob("index.html")}
    missing = {page for page in pages if page.name != "index" and page not in built}
    assert not missing


def test_nothing_is_loaded_from_other_servers(site: Path):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]+src=\"?https?:", text), page
        assert not re.search(r"<link[^>]+rel=\"?(?:stylesheet|preconnect)\"?[^>]+href=\"?https?:", text), page


def test_anchors_of_reasons_are_those_that_messages_link_to(site: Path):
    from pilotfish.api.reasons import Reason

    page = (site / "reasons" / "index.html").read_text(encoding="utf-8")
    for reason in Reason:
        assert f'id="{reason.anchor}"' in page


def test_pictures_have_a_text():
    for page in (ROOT / "docs").rglob("*.md"):
        for alt, target in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(encoding="utf-8")):
            assert len(alt) > 2, f"{page.name}: {target}"


def test_links_of_files_beside_the_site():
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8")):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{name}: {target}"
