"""The review page of the server in a real browser: several reviewers, and a server that is killed."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import emlc.review.store
from browsing import NEEDS_CHROMIUM, WIDTHS, Opened, axe_violations, started_browser
from emlc.server import make_app, open_desk

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")

pytestmark = NEEDS_CHROMIUM
AUDIT = (Path(__file__).parents[1] / "report/audit.js").read_text(encoding="utf-8")
TOKEN = "a token of this test"


@pytest.fixture(scope="module")
def browser():
    with started_browser() as browser:
        yield browser


@contextmanager
def served(desk, folder):
    """The address of a server in this process, and its database."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    store = emlc.review.store.Store(folder / "review.sqlite")
    app = make_app(desk, store, token=TOKEN, password=None, port=port)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/", store
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()
        store.close()


@pytest.fixture(scope="module")
def desk(text_like_run):
    return open_desk(text_like_run, 60, "emlc apply RUN RUN/review.sqlite")


@pytest.fixture
def server(desk, tmp_path):
    with served(desk, tmp_path) as (address, store):
        yield address, store


@contextmanager
def reviewer(browser, address, name, token=TOKEN, **options):
    """A reviewer's window, in which nothing may go wrong, and nothing be fetched from elsewhere."""
    opened = Opened(browser, f"{address}?token={token}", **options)
    if name is not None:
        opened.page.fill("#name", name)
        opened.press("Enter")
    yield opened
    opened.context.close()
    assert opened.problems == []
    assert all(url.startswith((address, "data:", "blob:")) for url in opened.requests)


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def latest(store):
    return {(d.reviewer, d.id): (d.decision, d.label) for d in store.latest() if d.decision != "clear"}


def test_two_reviewers_disagree_and_settle_it(browser, server):
    address, store = server
    with reviewer(browser, address, "<b>ann</b>") as ann, reviewer(browser, address, "__proto__") as bob:
        classes = ann.data["classes"]
        ann.page.click("#start")
        first = ann.current()
        ann.press("k", "e", "n")
        wait_for(lambda: len(store.latest()) == 3)
        assert {d.reviewer for d in store.latest()} == {"<b>ann</b>"}
        bob.page.click("#start")
        assert bob.current() == first
        assert bob.page.is_hidden("#disagreements")
        third = next(c for c in range(3) if c not in (first["given"], first["suggested"]))
        bob.press(str(third + 1))
        wait_for(lambda: latest(store).get(("__proto__", first["id"])) == ("other", classes[third]))
        ann.page.wait_for_selector("#disagreements:visible")
        assert ann.text("#disagreements") == "Disagreements: 1"
        assert ann.page.inner_text(".card .others") == f"__proto__: other class: {classes[third]}"
        ann.page.click("#disagreements")
        assert ann.page.locator(".card").count() == 1
        ann.press("k")
        wait_for(lambda: store.latest()[-1].resolves)
        ann.page.wait_for_selector("#disagreements", state="hidden")
        bob.page.click("#agreement > summary")
        bob.page.wait_for_selector("#agreement-rows td")
        assert bob.page.inner_text("#agreement-rows th") == "<b>ann</b>, __proto__"
        with bob.page.expect_download() as found:
            bob.page.click("#download")
        text = Path(found.value.path()).read_text(encoding="utf-8")
        assert text.startswith("id,decision,label,given_label,suggested_label,chosen,reviewer,time")


def stored_decision(desk, record, label, name, **changes):
    """A decision that somebody made elsewhere."""
    given = desk.split.classes[record["given"]]
    values = {"suggested_label": "", "time": "2026-01-01T00:00:00.000Z", "key": f"{name} {record['id']}"}
    word = "keep" if label == given else "other"
    values |= {"id": record["id"], "decision": word, "label": label, "given_label": given, "reviewer": name}
    return emlc.review.store.StoredDecision(**values | changes)


def disputed(desk, record, name, **changes):
    """A decision against the given label."""
    label = next(each for k, each in enumerate(desk.split.classes) if k != record["given"])
    return stored_decision(desk, record, label, name, **changes)


def kept(desk, record, name, **changes):
    return stored_decision(desk, record, desk.split.classes[record["given"]], name, **changes)


def test_who_agrees_with_what_was_settled_leaves_it_settled(browser, desk, server):
    address, store = server
    one, other = desk.gallery.records[:2]
    store.add([disputed(desk, one, "ann"), disputed(desk, other, "ann")])
    store.add([kept(desk, record, "bob", resolves=True) for record in (one, other)])
    store.add([kept(desk, one, "cy"), disputed(desk, other, "cy")])
    with reviewer(browser, address, "dan") as dan:
        dan.page.wait_for_selector("#disagreements:visible")
        assert dan.text("#disagreements") == "Disagreements: 1"
        dan.page.click("#disagreements")
        assert dan.current()["id"] == other["id"]


def test_what_is_put_off_among_disagreements_leads_to_the_next(browser, desk, server):
    address, store = server
    one, other = desk.gallery.records[:2]
    for record in (one, other):
        store.add([disputed(desk, record, "ann"), kept(desk, record, "bob")])
    for name, last in (("cy", "decided"), ("ann", "No disagreement is left.")):
        with reviewer(browser, address, name) as opened:
            opened.page.wait_for_selector("#disagreements:visible")
            opened.page.click("#disagreements")
            assert opened.current()["id"] == one["id"]
            opened.press("n")
            assert opened.current()["id"] == other["id"]
            opened.press("n")
            assert last in opened.text("#status")
            assert "All that match" not in opened.text("#status")
            if name == "cy":  # who was not one of those who disagree: they still do
                assert opened.current()["id"] == one["id"]
                assert "No disagreement" not in opened.text("#status")
                wait_for(lambda: len(store.latest()) == 6)


def test_who_decides_anew_having_seen_others_is_not_independent(browser, desk, server):
    address, store = server
    one, other = desk.gallery.records[:2]
    store.add([disputed(desk, one, "bob"), disputed(desk, other, "bob")])
    with reviewer(browser, address, "ann") as ann:
        ann.page.wait_for_selector("#disagreements", state="hidden")
        ann.page.click("#start")
        ann.press("k")
        ann.page.wait_for_selector("#disagreements:visible")
        assert "bob" in ann.page.inner_text(".card .others >> nth=0")
        ann.press("Home", "e", "Home", "c", "k", "k")
        wait_for(lambda: len(store.latest()) == 4 and store.latest()[-1].id == other["id"])
        made = {d.id: d.seen for d in store.latest() if d.reviewer == "ann"}
        assert made == {one["id"]: True, other["id"]: False}
        query = "SELECT decision, seen FROM decisions WHERE reviewer = 'ann'"
        with sqlite3.connect(store.path) as database:
            made = database.execute(query).fetchall()
        database.close()
        assert made == [("keep", 0), ("exclude", 1), ("clear", 0), ("keep", 1), ("keep", 0)]


def test_undo_of_a_second_settlement_leaves_the_first(browser, desk, server):
    address, store = server
    record = desk.gallery.records[0]
    store.add([disputed(desk, record, "bob"), kept(desk, record, "ann")])
    store.add([kept(desk, record, "ann", resolves=True, seen=True, key="settled")])
    store.add([disputed(desk, record, "cy")])
    with reviewer(browser, address, "ann") as ann:
        ann.page.wait_for_selector("#disagreements:visible")
        ann.page.click("#disagreements")
        ann.press("e")
        wait_for(lambda: store.latest()[-1].decision == "exclude")
        ann.press("u")
        wait_for(lambda: store.latest()[-1].decision == "keep")
        assert (store.latest()[-1].resolves, store.latest()[-1].seen) == (True, True)


PERSIAN = "\u0645\u06cc\u200c\u0646\u0627"


def test_a_name_is_asked_for_until_there_is_one(browser, server):
    address, store = server
    with reviewer(browser, address, None) as ann:
        ann.press("Escape", "Escape", "Escape")
        assert ann.page.is_visible("#name")
        ann.page.fill("#name", "\u202eann")
        ann.press("Enter")
        assert "no control characters" in ann.text("#who-problem")
        ann.page.fill("#name", PERSIAN)
        ann.press("Enter")
        ann.page.click("#start")
        ann.press("e")
        wait_for(lambda: [d.reviewer for d in store.latest()] == [PERSIAN])


def test_a_name_that_the_server_refuses_costs_no_decision(browser, desk, server):
    address, store = server
    with reviewer(browser, address, "ann") as ann:
        # As of a page whose rule for names is another.
        record = desk.gallery.records[0]
        ann.page.route("**/decisions", lambda route: route.abort())
        ann.page.click("#start")
        assert ann.current()["id"] == record["id"]
        ann.press("e")
        ann.page.wait_for_selector("#server-note:visible")
        ann.page.evaluate("""() => {
          const key = Object.keys(localStorage).find((name) => name.includes("unsent"));
          localStorage.setItem(key, localStorage.getItem(key).replace('"ann"', '"a\\u202e"'));
        }""")
        ann.page.unroute("**/decisions")
        ann.problems.clear()  # the browser tells of requests that fail
        ann.page.reload()
        ann.page.wait_for_selector("#who[open]")
        assert "expected a name" in ann.text("#who-problem")
        assert store.latest() == []
        ann.page.fill("#name", "ann b.")
        ann.press("Enter")
        wait_for(lambda: latest(store) == {("ann b.", record["id"]): ("exclude", "")})
        ann.problems.clear()


def test_many_at_once_and_undo(browser, server):
    address, store = server
    with reviewer(browser, address, "ann") as ann:
        page = ann.page
        suggested = [r for r in ann.records if r["suggested"] is not None]
        page.click("#select-all")
        assert "60 selected" in ann.text("#selection-text")
        page.click("#selection [data-all=accept]")
        left = len(ann.records) - len(suggested)
        words = f"{len(suggested)} samples accepted, {left} without a suggestion are left as they were"
        assert words in ann.text("#status")
        wait_for(lambda: len(latest(store)) == len(suggested))
        expected = sum(1 - record["quality"] for record in suggested)
        spread = sum(record["quality"] * (1 - record["quality"]) for record in suggested) ** 0.5
        n = len(suggested)
        found = (
            f"Of {n} judged labels, {n} were wrong; the estimate had expected {expected:.1f} ± {spread:.1f}"
        )
        assert found in page.text_content("#standing").replace("\xa0", " ")
        page.click("#undo")
        assert f"{len(suggested)} decisions are undone" in ann.text("#status")
        wait_for(lambda: latest(store) == {})
        page.click("#select-page")
        page.click("#selection [data-all=other]")
        page.keyboard.type(ann.data["classes"][2][:4])
        ann.press("Enter")
        wait_for(lambda: len(latest(store)) == 24)
        assert {label for _, label in latest(store).values()} == {ann.data["classes"][2]}
        page.select_option("[name=decision]", "undecided")
        page.locator(".pick").nth(1).click()
        page.locator(".pick").nth(4).click(modifiers=["Shift"])
        assert "4 selected" in ann.text("#selection-text")
        page.locator(".card").nth(4).focus()
        ann.press("Escape", "x", "Shift+ArrowRight", "Shift+ArrowRight", "e")
        assert "3 samples excluded" in ann.text("#status")
        wait_for(lambda: [word for word, _ in latest(store).values()].count("exclude") == 3)


def test_decisions_go_in_and_out_as_csv(browser, server):
    address, store = server
    with reviewer(browser, address, "ann") as ann, reviewer(browser, address, "bob") as bob:
        record = ann.records[0]
        given = ann.data["classes"][record["given"]]
        header = ["id", "decision", "label", "given_label", "suggested_label"]
        ann.load([header, [record["id"], "keep", given, given, ""], ["nobody", "keep", given, given, ""]])
        assert "1 decisions loaded" in ann.text("#status")
        assert "1 left out" in ann.text("#status")
        wait_for(lambda: latest(store) == {("ann", record["id"]): ("keep", given)})
        rows = ann.download()
        assert rows[1][:5] == [record["id"], "keep", given, given, ""]
        bob.load(rows)  # with reviewer and time
        wait_for(lambda: len(latest(store)) == 2)
        assert all(d.seen for d in store.latest())  # what is loaded is no independent decision
        assert bob.page.evaluate("async () => (await (await fetch('agreement')).json()).agreements") == []


def start(folder, port, tmp_path):
    command = [sys.executable, "-m", "emlc", "review", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    address, _, token = process.stdout.readline().removeprefix("open ").strip().partition("?token=")
    return process, address, token


def test_a_killed_server_loses_nothing(browser, text_like_run, tmp_path):
    """What is decided while there is no server waits in the browser, and is stored once, by the next one."""
    file = text_like_run.folder / "review.sqlite"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first, address, token = start(text_like_run.folder, port, tmp_path)
    opened = Opened(browser, f"{address}?token={token}")
    opened.page.fill("#name", "ann")
    opened.press("Enter")
    opened.page.click("#start")
    opened.press("e")
    wait_for(
        lambda: opened.page.evaluate("Object.keys(localStorage).every((key) => !key.includes('unsent'))")
    )
    first.send_signal(signal.SIGKILL)
    first.communicate()
    opened.press("e", "n")
    opened.page.wait_for_selector("#server-note:visible")
    assert "2 decisions wait in this browser" in opened.text("#server-note")
    opened.page.close()
    second, _, token = start(text_like_run.folder, port, tmp_path)
    try:
        opened.url = f"{address}?token={token}"
        opened.page = opened.open()
        wait_for(lambda: opened.text("#progress-text").startswith("2 of "))

        def words():
            with sqlite3.connect(file) as database:
                return sorted(row[0] for row in database.execute("SELECT decision FROM decisions"))

        wait_for(lambda: words() == ["exclude", "exclude", "recheck"])
        opened.page.reload()
        wait_for(lambda: opened.text("#progress-text").startswith("2 of "))
    finally:
        second.kill()
        second.communicate()
        opened.context.close()
        file.unlink()


def test_a_wrong_token_shows_nothing(browser, server):
    address, _ = server
    opened = Opened(browser, f"{address}?token=wrong")
    assert "its token is missing or wrong" in opened.text("body")
    assert opened.page.locator(".card").count() == 0
    opened.context.close()


def seconds_of_work(page, act):
    """CPU time that the page takes, which is the same however busy the machine is."""
    with_figures = page.context.new_cdp_session(page)
    with_figures.send("Performance.enable")

    def spent():
        metrics = with_figures.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")

    before = spent()
    act()
    return spent() - before


def test_ten_thousand_samples(browser, desk, tmp_path):
    first = desk.gallery
    records = [
        first.records[k % 60] | {"id": f"sample {k}", "given": k % 3, "suggested": (k + 1) % 3, "row": k}
        for k in range(10_000)
    ]
    many = replace(desk, gallery=replace(first, records=records))
    with served(many, tmp_path) as (address, _), reviewer(browser, address, "ann") as ann:
        ann.page.wait_for_selector(".card")
        assert 0 < seconds_of_work(ann.page, ann.page.reload) < 1
        filtered = seconds_of_work(ann.page, lambda: ann.page.select_option("[name=given]", "1"))
        assert 0 < filtered < 0.2
        assert "3,333 of 10,000 samples match" in ann.text("#pages-top")
        ann.page.click("#select-all")
        assert "3,333 selected" in ann.text("#selection-text")


def test_samples_like_one_and_trusted_ones(browser, server):
    address, _ = server
    with reviewer(browser, address, "ann") as ann:
        ann.page.click("#start")
        record = ann.current()
        ann.press("l")
        ann.page.wait_for_selector("#context[open] .context-samples li")
        names = [
            f"trusted samples of class {ann.data['classes'][record[field]]}"
            for field in ("given", "suggested")
        ]
        titles = ann.page.eval_on_selector_all("#context h4", "found => found.map((one) => one.textContent)")
        assert titles[:2] == names
        ann.page.click("#context-all")
        assert ann.current() == record  # which is most like itself
        assert ann.page.is_visible("#similar-note")
        ann.page.click("#similar-clear")
        assert "60 of 60 samples match" in ann.text("#pages-top")


def test_pictures_are_enlarged(browser, picture_run, tmp_path):
    desk = open_desk(picture_run, 1000, "")
    with served(desk, tmp_path) as (address, _), reviewer(browser, address, "ann") as ann:
        loaded = "[...document.images].every((one) => one.complete && one.naturalWidth === 80)"
        wait_for(lambda: ann.page.evaluate(loaded))
        ann.page.click("#start")
        record = ann.current()
        ann.press("z")
        ann.page.wait_for_selector("#zoom-stage img")
        assert ann.page.get_attribute("#zoom-stage img", "src") == f"images/{record['row']}"
        wait_for(lambda: ann.page.evaluate("document.querySelector('#zoom-stage img').naturalWidth === 80"))
        ann.page.click("#zoom-full")
        assert ann.text("#zoom-scale") == "100 %"
        ann.page.hover("#zoom-stage")
        ann.page.mouse.wheel(0, -300)
        wait_for(
            lambda: ann.page.evaluate("parseInt(document.getElementById('zoom-scale').textContent) > 150")
        )
        ann.page.click("#zoom-full")
        ann.page.focus("#zoom-stage")
        image = "document.querySelector('#zoom-stage img')"
        place = f"(() => {{ const at = new DOMMatrix({image}.style.transform); return [at.e, at.f]; }})()"
        x, y = ann.page.evaluate(place)
        ann.press("ArrowRight", "ArrowDown", "ArrowDown")
        assert ann.page.evaluate(place) == [x - 40, y - 80]
        ann.page.dispatch_event("#zoom-stage img", "error")
        assert ann.text("#zoom-stage") == "The picture cannot be read."
        ann.press("ArrowLeft", "Escape")
        assert ann.current() == record


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(browser, server, scheme):
    """With the question for the name; with some selected and all unfolded; with the samples like one."""
    address, _ = server
    with reviewer(browser, address, None, color_scheme=scheme, bypass_csp=True) as ann:
        assert axe_violations(ann.page) == []
        ann.page.add_style_tag(content=".values-list { max-height: 2rem !important; }")
        ann.page.fill("#name", "ann")
        ann.press("Enter")
        ann.page.eval_on_selector_all("details", "found => found.forEach((one) => { one.open = true; })")
        ann.page.fill("[name=search]", "data1")  # a few cards: each takes its time
        ann.page.click("#select-page")
        for width in WIDTHS:
            ann.page.set_viewport_size({"width": width, "height": 900})
            assert axe_violations(ann.page) == []
        ann.page.locator(".card").first.focus()
        ann.press("l")
        ann.page.wait_for_selector("#context[open] .context-samples li")
        assert axe_violations(ann.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_access_for_all(browser, server, scheme):
    address, _ = server
    with reviewer(browser, address, None, color_scheme=scheme, bypass_csp=True) as ann:
        assert ann.page.evaluate(AUDIT)[1] == []
        ann.page.fill("#name", "ann")
        ann.press("Enter")
        ann.page.eval_on_selector_all("details", "found => found.forEach((one) => { one.open = true; })")
        ann.page.click("#select-page")
        for width in (400, 900, 1400):
            ann.page.set_viewport_size({"width": width, "height": 900})
            texts, problems = ann.page.evaluate(AUDIT)
            assert texts > 100
            assert problems == []
        ann.page.locator(".card").first.focus()
        ann.press("l")
        ann.page.wait_for_selector("#context[open]")
        assert ann.page.evaluate(AUDIT)[1] == []


def test_on_a_phone_the_first_card_comes_first(browser, server):
    address, _ = server
    with reviewer(browser, address, "ann", viewport={"width": 390, "height": 844}, has_touch=True) as ann:
        box = ann.page.locator(".card").first.bounding_box()
        assert box is not None
        assert box["y"] < 844 / 2
