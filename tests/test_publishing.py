"""What is published says where the repository is, and nothing in it leads astray."""

import importlib.metadata
import re
from pathlib import Path

import tfhub_cache as hub
from tfhub_cache import stand_in

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
REPOSITORY = re.findall('^Repository = "(.*)"$', PROJECT, re.MULTILINE)[0]


def test_the_address_of_the_repository_is_the_same_everywhere() -> None:
    """pyproject.toml has it; these files can't take it from there."""
    owner, name = REPOSITORY.rsplit("/", 2)[1:]
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("*.cff"),
        ROOT / "mkdocs.yml",
        *(ROOT / "stand-in").glob("*.*"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs").glob("*.in"),
        *(ROOT / ".github").rglob("*.*"),
    ]
    for path in texts:
        for found in re.findall(
            r"github\.com/([\w.-]+/[\w.-]*tfhub.cache)\b", path.read_text("utf-8")
        ):
            assert found == f"{owner}/{name}", path


def test_the_citation_and_the_distribution_that_stands_in_have_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {hub.__version__}\n" in text
    text = (ROOT / "stand-in" / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{hub.__version__}"\n' in text


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    first, *versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert f"\n[Unreleased]: {REPOSITORY}/" in text
    for version in versions:
        named = re.fullmatch(r"(\[\d+\.\d+\.\d+\]) - \d{4}-\d\d-\d\d", version)
        assert named, version
        assert f"\n{named[1]}: {REPOSITORY}/" in text
    for section in re.split("^## ", text, flags=re.MULTILINE)[1:]:
        headings = re.findall(r"^### (.*)$", section, re.MULTILINE)
        assert len(headings) == len(set(headings))
        assert set(headings) <= kinds


def test_the_links_of_the_readme_work_on_a_package_index_too() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    files = f"{REPOSITORY}/blob/main/"
    assert sum(link.startswith(files) for link in links) > 10
    for link in links:
        assert link.startswith("https://"), link
        if link.startswith(REPOSITORY):
            path = link.removeprefix(files).partition("#")[0]
            assert (ROOT / path).is_file(), link


def test_what_lists_packages_can_tell_the_stand_in_from_tensorflow_hub() -> None:
    (distribution,) = importlib.metadata.distributions(path=[stand_in.FOLDER])
    assert distribution.metadata["Name"] == "tensorflow-hub"
    assert distribution.metadata["Summary"].startswith("Not tensorflow_hub")
    assert distribution.metadata["Author"] == "The tfhub_cache authors"
    assert REPOSITORY in distribution.metadata["Project-URL"]
