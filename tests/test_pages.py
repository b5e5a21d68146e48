"""The built pages as a browser shows them, on a screen and on a phone, light and dark."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser as browsers
import pytest
from browser import Browser

import tfhub_cache as hub

pytestmark = [
    pytest.mark.once,
    pytest.mark.xdist_group("pages"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(browsers.executable() is None, reason="there is no Chromium"),
]

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    *(
        "quickstart",
        "install",
        "troubleshooting",
        "resume",
        "authentication",
        "login",
        "proxy",
        "air-gapped",
    ),
    *("cleanup", "docker", "gpu", "tpu", "offline", "TFHUB_CACHE_DIR", "fine-tuning"),
)
"""What people search for."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built pages."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def pages() -> list[str]:
    """The paths of all pages."""
    names = (path.stem for path in (ROOT / "docs").glob("*.md"))
    return [f"{name}/" if name != "index" else "" for name in sorted(names)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_each_page_fits_the_window_and_reports_no_error(
    site: str, browser: Browser, width: int, scheme: str
) -> None:
    browser.look(width, scheme)
    found = {}
    for page in pages():
        browser.open(site + page)
        sticking_out = browser.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        shown = browser.evaluate("document.body.getAttribute('data-md-color-scheme')")
        found[page] = (sticking_out, shown, list(browser.troubles))
    assert found == dict.fromkeys(pages(), (0, {"light": "default", "dark": "slate"}[scheme], []))


def test_each_link_leads_to_a_page_a_place_in_it_or_a_file_of_the_repository(
    site: str, browser: Browser
) -> None:
    links: dict[str, list[str]] = {}
    targets: set[str] = set()
    for page in pages():
        browser.open(site + page)
        links[page] = browser.evaluate("[...document.links].map(link => link.href)")
        places = browser.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        targets |= {site + page, *(f"{site}{page}#{place}" for place in places)}
        targets |= {f"{site}{page}#"}
        repository = browser.evaluate("document.querySelector('.md-source').href")
    files = f"{repository.rstrip('/')}/blob/main/"
    broken = []
    for page, of_page in links.items():
        for link in of_page:
            if link.startswith(site):
                good = unquote(link) in targets or _is_file(site, link)
            elif link.startswith(files):
                good = (ROOT / urlsplit(link.removeprefix(files)).path).is_file()
            else:
                good = link.startswith("https://")
            if not good:
                broken.append((page, link))
    assert broken == []


def _is_file(site: str, link: str) -> bool:
    """Whether a link is to a file beside the pages, such as a table of figures."""
    name = urlsplit(link.removeprefix(site)).path
    return "." in name and (ROOT / "docs" / name).is_file()


@pytest.mark.parametrize("word", WORDS)
def test_the_search_finds_what_people_search_for(site: str, browser: Browser, word: str) -> None:
    browser.look(1280, "light")
    browser.open(f"{site}?q={word}")
    browser.wait("document.querySelectorAll('.md-search-result__item').length")


@pytest.mark.parametrize("width", [1280, 390])
def test_no_name_of_a_setting_is_broken_and_the_table_scrolls_where_it_is_wide(
    site: str, browser: Browser, width: int
) -> None:
    browser.look(width, "light")
    browser.open(f"{site}reference/")
    broken = (
        "[...document.querySelectorAll('td code')].filter(e => e.getClientRects().length > 1)"
        ".map(e => e.innerText)"
    )
    assert browser.evaluate(broken) == []
    wide = (
        "[...document.querySelectorAll('.md-typeset__scrollwrap')]"
        ".filter(e => e.scrollWidth > e.clientWidth).map(e => getComputedStyle(e).overflowX)"
    )
    scrolling = set(browser.evaluate(wide))
    assert scrolling <= {"auto"}
    assert scrolling or width > 390


def test_the_version_and_the_repository_are_shown(site: str, browser: Browser) -> None:
    browser.look(1280, "light")
    browser.open(site)
    shown = browser.evaluate("document.querySelector('.md-header .md-source').innerText.trim()")
    assert shown == f"tfhub_cache {hub.__version__}"
