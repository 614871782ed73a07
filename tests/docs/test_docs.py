"""The site that `.ci/run` builds of the documentation: complete, and read without a network."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from dist_lstm.config.load import flatten
from dist_lstm.config.schema import Config
from tests.conftest import ROOT

DOCS = ROOT / "docs"
#: What a browser fetches while it shows a page; an ordinary link is not among it.
FETCHED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}


class Page(HTMLParser):
    """What a page fetches, its anchors and its headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.styles = ""
        self.tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        values = dict(attributes)
        self.fetched += [values[name] or "" for name in FETCHED.get(tag, ()) if name in values]
        self.anchors.add(values.get("id") or "")
        self.styles += values.get("style") or ""

    def handle_data(self, data: str) -> None:
        self.styles += data if self.tag == "style" else ""


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", docs / "mkdocs.yml"]
    return subprocess.run([*command, "--site-dir", site], capture_output=True, text=True, timeout=250, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    result = build(DOCS, folder)
    assert result.returncode == 0, result.stderr
    return folder


def pages(site: Path) -> Iterator[tuple[str, Page]]:
    for path in sorted(site.rglob("*.html")):
        yield str(path.relative_to(site)), Page(path.read_text(encoding="utf-8"))


def leaves(nav) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case list():
            for entry in nav:
                yield from leaves(entry)
        case dict():
            yield from leaves(list(nav.values()))


def test_the_site_holds_every_page_of_its_navigation(site):
    nav = [
        name.replace(".md", ".html") for name in leaves(yaml.safe_load((DOCS / "mkdocs.yml").read_text())["nav"])
    ]
    assert len(nav) >= 14
    assert {name for name, _ in pages(site)} == {*nav, "404.html"}


def test_no_page_fetches_from_another_server(site):
    is_remote = re.compile(r"(?:https?:)?//", re.IGNORECASE)
    for name, page in pages(site):
        assert page.fetched, name
        assert [address for address in page.fetched if is_remote.match(address)] == [], name
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", page.styles), name


def test_no_style_sheet_fetches_from_another_server(site):
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_everything_that_a_page_fetches_is_in_the_site(site):
    for name, page in pages(site):
        if name != "404.html":  # served at any address, so that its own are absolute
            files = [address.split("?")[0].split("#")[0] for address in page.fetched]
            assert [file for file in files if not (site / name).parent.joinpath(file).is_file()] == [], name


def test_the_settings_page_has_an_anchor_for_every_setting_and_says_what_it_means(site):
    text = (site / "settings.html").read_text(encoding="utf-8")
    settings = [key for key, _ in flatten(Config.model_validate({"task": {"horizon": 1}, "data": {"path": "x"}}))]
    assert len(settings) > 60
    assert set(settings) - Page(text).anchors == set()
    plain = re.sub(r"<[^>]+>", "", text)
    assert "Decoupled weight decay" in plain
    assert "number ≥ 0 and ≤ 1 · default 0" in plain


def test_the_drawing_of_the_packages_is_that_of_the_imports():
    script = "import sys, architecture; sys.stdout.write(architecture.draw(architecture.read_architecture()))"
    drawn = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": f"{DOCS}:{ROOT}", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    ).stdout
    kept = (DOCS / "pages" / "images" / "architecture.svg").read_text(encoding="utf-8")
    assert kept == drawn, "run: uv run python docs/architecture.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text", "wrong", "warning"),
    [
        ("docs/pages/index.md", "# dist_lstm", "# dist_lstm\n\n[missing](missing.md)", "missing.md"),
        ("docs/pages/index.md", "# dist_lstm", "# dist_lstm\n\n[missing](settings.md#missing)", "#missing"),
        ("dist_lstm/errors.py", "        problem: ", "        missing: ", "missing"),
    ],
    ids=["page", "anchor", "docstring"],
)
def test_a_reference_to_nothing_fails_the_build(tmp_path, file, text, wrong, warning):
    for name in ("docs", "dist_lstm"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("site", "__pycache__"))
    path = tmp_path / file
    assert path.read_text().count(text) == 1
    path.write_text(path.read_text().replace(text, wrong))
    result = build(tmp_path / "docs", tmp_path / "site")
    assert result.returncode != 0
    assert [line for line in result.stderr.splitlines() if "WARNING" in line and warning in line]


class Proxy(ThreadingHTTPServer):
    """Stands for the whole network: only it answers a browser. It records the status of each of its own files."""

    def __init__(self, site: Path) -> None:
        self.statuses: dict[str, int] = {}
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=site))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    """Serves the site; refuses what is asked of another server."""

    def translate_path(self, path: str) -> str:
        own = path.removeprefix(self.server.address)
        return super().translate_path(own if own.startswith("/") else "/not/of/this/server")

    def do_CONNECT(self) -> None:
        self.send_error(502)

    def log_request(self, code="-", size="-") -> None:
        if self.path.startswith(self.server.address):
            self.server.statuses[self.path] = int(code)

    def log_message(self, *values) -> None:
        pass


@contextmanager
def serve(site: Path) -> Iterator[Proxy]:
    with Proxy(site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy(site) -> Iterator[Proxy]:
    with serve(site) as server:
        yield server


def open_page(address: str, proxy: Proxy, folder: Path) -> tuple[str, list[str]]:
    """Shows a page in a browser that reaches the proxy alone.

    Returns:
        The document after a few seconds of the page's own time, and the addresses that the page requested, without
        those that the browser asks for itself, whatever page it shows.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not browser:
        pytest.skip("there is no Chromium to open the page in")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--proxy-server={proxy.address}", "--proxy-bypass-list=<-loopback>", "--virtual-time-budget=10000",
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={folder / 'network.json'}",
        "--enable-logging=stderr", "--v=0", "--dump-dom",
    ]  # fmt: skip
    result = subprocess.run([browser, *options, address], capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in result.stderr.splitlines() if "CONSOLE" in line] == []
    return result.stdout, requests_of_a_page(folder / "network.json")


def requests_of_a_page(log: Path) -> list[str]:
    """The addresses in a network log of Chromium that a page asked for: the browser's own have no origin."""
    text = json.loads(log.read_text())
    start = text["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    requests = [event.get("params", {}) for event in text["events"] if event["type"] == start]
    return [request["url"] for request in requests if request.get("initiator", "not an origin") != "not an origin"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "settings", "architecture"])
def test_a_browser_opens_a_page_and_no_request_fails_or_leaves_this_machine(site, proxy, tmp_path, name):
    document, requested = open_page(f"{proxy.address}/{name}.html", proxy, tmp_path)
    assert "md-content" in document
    assert len(requested) >= 5
    assert [address for address in requested if not address.startswith(f"{proxy.address}/")] == []
    assert {path: status for path, status in proxy.statuses.items() if status not in (200, 304)} == {}


@pytest.mark.slow
def test_the_search_answers_in_a_page_opened_as_a_file(site, proxy, tmp_path):
    document, requested = open_page((site / "index.html").as_uri() + "?q=learning_rate", proxy, tmp_path)
    assert re.search(r'href="[^"]*settings\.html\?h=[^"]*#train\.learning_rate"', document)
    assert [address for address in requested if not address.startswith("file:")] == []


@pytest.mark.slow
def test_a_request_of_a_page_for_another_server_is_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><img src="http://example.org/a.png"><img src="https://example.org/b.png">')
    with serve(tmp_path) as proxy:
        for address in (f"{proxy.address}/page.html", page.as_uri()):
            _, requested = open_page(address, proxy, tmp_path)
            assert {"http://example.org/a.png", "https://example.org/b.png"} <= set(requested)
