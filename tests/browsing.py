"""A real browser, headless, for tests: a page in it, and what went wrong there."""

import csv
import io
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

WIDTHS = (390, 900, 1400)
"""Of a phone, a tablet and a desktop window, in CSS pixels."""

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

NEEDS_CHROMIUM = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="there is no chromium")


@contextmanager
def started_browser():
    """Start Chromium."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def axe_violations(page):
    """What axe-core, by all of its rules, finds wrong with a page as it is now: rules and places."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 10  # the rules were applied
    return [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found["violations"]]


class Opened:
    """A page in a browser window of its own storage, and what went wrong in it."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.url, self.problems, self.requests = url, [], []
        self.page = self.open()

    def open(self):
        page = self.context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(self.url)
        return page

    def text(self, selector):
        return self.page.inner_text(selector)

    def current(self):
        """The record of the card that has the focus."""
        found = self.page.evaluate("document.activeElement.querySelector('h3')?.title")
        assert self.page.evaluate("document.activeElement.matches('.card')"), found
        return next(record for record in self.records if record["id"] == found)

    @property
    def data(self):
        return json.loads(self.page.text_content("#report-data"))

    @property
    def records(self):
        return self.data["gallery"]["records"]

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def download(self):
        with self.page.expect_download() as found:
            self.page.click("#download")
        assert found.value.suggested_filename == "decisions.csv"
        text = Path(found.value.path()).read_bytes().decode("utf-8")
        return list(csv.reader(io.StringIO(text, newline="")))

    def load(self, rows):
        file = io.StringIO(newline="")
        csv.writer(file).writerows(rows)
        self.load_text(file.getvalue())

    def load_text(self, text):
        before = self.text("#status")
        content = {"name": "decisions.csv", "mimeType": "text/csv", "buffer": text.encode()}
        self.page.set_input_files("#load-file", content)
        self.page.wait_for_function(f"before => {STATUS} !== before", arg=before)

    def draw_all(self):
        for plot in self.page.query_selector_all(".plot"):
            plot.scroll_into_view_if_needed()
            plot.wait_for_selector(".main-svg")


STATUS = "document.getElementById('status').textContent"


@contextmanager
def window(browser, url, **options):
    """A window in which nothing may go wrong, and nothing be fetched but the page."""
    opened = Opened(browser, url, **options)
    yield opened
    opened.context.close()
    assert opened.problems == []
    assert {url for url in opened.requests if not url.startswith(("data:", "blob:"))} == {url}
