"""The server without a browser: who gets in, what is answered, and what is stored."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emlc.errors import InputError
from emlc.review import apply_decisions
from emlc.review.store import Store

pytest.importorskip("starlette", reason="starlette is not installed")
testclient = pytest.importorskip("starlette.testclient", reason="httpx is not installed")

from emlc.server import make_app, open_desk  # noqa: E402

HOST = "http://127.0.0.1:8765"
OWN = {"Origin": HOST, "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def desk(text_like_run):
    return open_desk(text_like_run, 60, "emlc apply RUN RUN/review.sqlite")


@pytest.fixture(scope="module")
def picture_desk(picture_run):
    return open_desk(picture_run, 1000, "emlc apply RUN RUN/review.sqlite")


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "review.sqlite")
    yield opened
    opened.close()


def client(desk, store, *, password=None, cookies=True):
    app = make_app(desk, store, token="right", password=password, port=8765)
    made = testclient.TestClient(app, base_url=HOST, raise_server_exceptions=True)
    if cookies:
        assert made.get("/?token=right").status_code == 200
    return made


def entry(record, classes, word="keep", label=None, **changes):
    given = classes[record["given"]]
    suggested = "" if record["suggested"] is None else classes[record["suggested"]]
    settled = {"keep": given, "accept": suggested}.get(word, "") if label is None else label
    values = {"key": f"{record['id']} {word} {label}", "id": record["id"], "decision": word, "label": settled}
    return values | {"given": given, "suggested": suggested, "resolves": False} | changes


def post(to, *entries, reviewer="ann", headers=OWN):
    body = json.dumps({"reviewer": reviewer, "decisions": list(entries)})
    return to.post("/decisions", content=body, headers=headers)


PATHS = ("/", "/decisions", "/decisions.csv", "/agreement", "/images/0", "/similar/0", "/nothing")


def test_strangers_are_refused(desk, store):
    stranger = client(desk, store, cookies=False)
    for path in PATHS:
        for address in (path, f"{path}?token=wrong", f"{path}?token="):
            found = stranger.get(address)
            assert (found.status_code, "token is missing or wrong" in found.text) == (403, True), address
    assert post(stranger, entry(desk.gallery.records[0], desk.split.classes)).status_code == 403
    assert store.latest() == []


def test_the_token_is_exchanged_for_a_cookie(desk, store):
    found = client(desk, store, cookies=False).get("/?token=right", follow_redirects=False)
    assert (found.status_code, found.headers["location"]) == (303, "/")
    cookie = found.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "right" not in cookie


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example:8765", ""])
def test_a_host_that_is_not_this_machine_is_refused(host, desk, store):
    found = client(desk, store).get("/", headers={"Host": host})
    assert (found.status_code, "use its IP address" in found.text) == (400, True)


def test_the_name_that_was_given_is_a_host(desk, store):
    app = make_app(desk, store, token="right", password=None, port=8765, host="Review.example")
    to = testclient.TestClient(app, base_url=HOST)
    for host, status in (("review.example:8765", 403), ("evil.example:8765", 400), ("", 400)):
        assert to.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1", "[::1]:8765", "192.168.3.4:8765"])
def test_addresses_of_machines_are_hosts(host, desk, store):
    assert client(desk, store).get("/decisions", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", None])
def test_another_page_cannot_decide(origin, desk, store):
    headers = {"Content-Type": "application/json"} | ({} if origin is None else {"Origin": origin})
    found = post(client(desk, store), entry(desk.gallery.records[0], desk.split.classes), headers=headers)
    assert found.status_code == 403
    assert store.latest() == []


def test_a_form_cannot_decide(desk, store):
    headers = OWN | {"Content-Type": "text/plain"}
    assert post(client(desk, store), headers=headers).status_code == 415


def test_a_password_lets_others_in(desk, store, monkeypatch):
    monkeypatch.setattr("emlc.server.access._SECONDS_PER_GUESS", 0.0)
    other = client(desk, store, password="correct horse", cookies=False)
    found = other.get("/")
    assert (found.status_code, "<form" in found.text) == (403, True)
    assert "script-src" not in found.headers["content-security-policy"]
    for wrong in ("", "wrong", "correct horse "):
        found = other.post("/login", data={"password": wrong}, headers={"Origin": HOST})
        assert (found.status_code, "This is not the password." in found.text) == (403, True)
    assert other.get("/decisions").status_code == 403
    found = other.post("/login", data={"password": "correct horse"}, headers={"Origin": HOST})
    assert found.status_code == 200
    assert other.get("/decisions").json() == {"decisions": []}


def test_without_a_password_there_is_nothing_to_log_in_to(desk, store):
    found = client(desk, store, cookies=False).post("/login", data={"password": ""}, headers={"Origin": HOST})
    assert found.status_code == 403


def test_every_answer_keeps_the_browser_strict(desk, store):
    with_cookie = client(desk, store)
    for path in PATHS:
        headers = with_cookie.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', with_cookie.get("/").text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "connect-src &#39;self&#39;" in policy[1]
    assert "unsafe-inline" not in policy[1].partition("style-src")[0]


def test_pictures_are_the_files_and_come_by_row_alone(picture_desk, store):
    to = client(picture_desk, store)
    noisy = picture_desk.split.noisy
    for row in (0, len(noisy) - 1):
        found = to.get(f"/images/{row}")
        assert found.headers["content-type"] == "image/png"
        assert found.content == Path(noisy.files[row].as_py()).read_bytes()
    small = to.get("/images/1/small")
    assert Image.open(io.BytesIO(small.content)).size == (80, 80)
    assert to.get("/trusted/0/small").status_code == 200


HOSTILE_ROWS = [
    "60000",
    "-1",
    "1.5",
    "0x1",
    "..%2f",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "1/large",
]
HOSTILE_ROWS += ["1/../../../etc/passwd", "9" * 40, "", "0/small/..%2f..", "%2e%2e/%2e%2e/etc/passwd"]


@pytest.mark.parametrize("row", HOSTILE_ROWS)
@pytest.mark.parametrize("room", ["images", "trusted", "texts", "similar"])
def test_nothing_else_can_be_reached(room, row, picture_desk, store):
    found = client(picture_desk, store).get(f"/{room}/{row}")
    assert found.status_code == 404
    assert "root:" not in found.text


def test_a_picture_that_is_gone_is_not_found(picture_desk, store, tmp_path):
    path = Path(picture_desk.split.noisy.files[2].as_py())
    content = path.read_bytes()
    for broken in (b"no image", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"):
        path.write_bytes(broken)
        try:
            assert client(picture_desk, store).get("/images/2").status_code == 404
        finally:
            path.write_bytes(content)


def test_the_order_of_review_is_stored_and_leaves_as_csv(desk, store):
    to, classes = client(desk, store), desk.split.classes
    one, other = desk.gallery.records[:2]
    assert post(to, entry(one, classes, chosen="random"), entry(other, classes)).json() == {}
    assert {d.id: d.chosen for d in store.latest()} == {one["id"]: "random", other["id"]: ""}
    assert json.loads(store.latest()[0].shown)["quality"] == one["quality"]
    rows = list(csv.DictReader(io.StringIO(to.get("/decisions.csv").text, newline="")))
    assert {row["id"]: row["chosen"] for row in rows} == {one["id"]: "random", other["id"]: ""}
    assert {d["chosen"] for d in to.get("/decisions").json()["decisions"]} == {"random", ""}
    for wrong in ("best", 1, None):
        found = post(to, entry(one, classes, chosen=wrong))
        assert (found.status_code, "chosen: expected worst" in found.text) == (422, True)


def test_decisions_are_stored_with_what_was_shown(desk, store):
    to, classes = client(desk, store), desk.split.classes
    record = next(record for record in desk.gallery.records if record["suggested"] is not None)
    assert post(to, entry(record, classes, "accept"), reviewer=" Ann \t B. ").json() == {}
    (stored,) = store.latest()
    assert (stored.id, stored.reviewer) == (record["id"], "Ann B.")
    assert stored.label == stored.suggested_label == classes[record["suggested"]]
    assert stored.given_label == classes[record["given"]]
    assert json.loads(stored.shown)["quality"] == record["quality"]
    assert stored.chosen == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stored.time)
    (sent,) = to.get("/decisions").json()["decisions"]
    assert (sent["id"], sent["label"], sent["number"]) == (stored.id, stored.label, 1)
    assert to.get("/decisions?after=1").json() == {"decisions": []}
    for after in ("x", "-1", "1" * 20, "²"):
        assert to.get("/decisions", params={"after": after}).status_code == 422


def test_what_is_no_decision_is_refused_whole(desk, store):
    to, classes = client(desk, store), desk.split.classes
    record = desk.gallery.records[0]
    good = entry(record, classes)
    wrong = {
        "not the id": good | {"id": "nobody"},
        "the given label is": good | {"given": "another"},
        "decision: expected": good | {"decision": "delete"},
        "expected a class with other": good | {"decision": "other", "label": "horse"},
        "expected none with exclude": good | {"decision": "exclude"},
        "expected texts": good | {"label": 5},
        "resolves": good | {"resolves": 1},
        "seen: expected true or false": good | {"seen": 1},
        "keep means the label": good | {"label": next(c for c in classes if c != good["label"])},
    }
    for message, bad in wrong.items():
        found = post(to, good, bad)
        assert (found.status_code, message in found.json()["problem"]) == (422, True), message
        assert not found.json()["unfit_name"]
    for reviewer in ("", "  ", "x" * 81, "a\x00b", None, 5, "\u202eann", "a\u2067b", "\u200c"):
        answer = post(to, good, reviewer=reviewer).json()
        assert "reviewer" in answer["problem"]
        assert answer["unfit_name"]
    for body in ("", "[]", "{}", "null", "[" * 100_000, '{"reviewer": "a", "decisions": 5}'):
        assert to.post("/decisions", content=body, headers=OWN).status_code == 422
    assert store.latest() == []


@pytest.mark.parametrize("name", ["\u0645\u06cc\u200c\u0646\u0627", "\u0915\u094d\u200d\u0937"])
def test_names_may_have_joiners(name, desk, store):
    record = desk.gallery.records[0]
    assert post(client(desk, store), entry(record, desk.split.classes), reviewer=name).json() == {}
    assert [d.reviewer for d in store.latest()] == [name]


def test_the_csv_is_what_apply_reads(desk, store, tmp_path, text_like_run):
    to, classes = client(desk, store), desk.split.classes
    words = ("keep", "skip", "recheck", "exclude")
    for record, word in zip(desk.gallery.records, words, strict=False):
        post(to, entry(record, classes, word))
    disputed = desk.gallery.records[10]
    other = next(c for c in classes if c != classes[disputed["given"]])
    post(to, entry(disputed, classes), reviewer="ann")
    post(to, entry(disputed, classes, "exclude"), reviewer="bob")
    text = to.get("/decisions.csv").content.decode()
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert [row["decision"] for row in rows.values()] == [*words, "recheck"]
    assert rows[disputed["id"]]["reviewer"] == "ann; bob"
    (tmp_path / "decisions.csv").write_bytes(text.encode())
    summary = apply_decisions(text_like_run, tmp_path / "decisions.csv", tmp_path / "new")
    assert summary["decisions"] == {"keep": 1, "skip": 1, "recheck": 2, "exclude": 1, "accept": 0, "other": 0}
    word = "accept" if other == classes[disputed["suggested"] or 0] else "other"
    post(to, entry(disputed, classes, word, other, resolves=True), reviewer="bob")
    found = to.get("/decisions.csv").content.decode()
    assert [row["label"] for row in csv.DictReader(io.StringIO(found, newline=""))][-1] == other


def test_agreement_is_answered(desk, store):
    to, classes = client(desk, store), desk.split.classes
    for record in desk.gallery.records[:10]:
        post(to, entry(record, classes), reviewer="ann")
        post(to, entry(record, classes, key=record["id"] + "b"), reviewer="bob")
    (found,) = to.get("/agreement").json()["agreements"]
    assert (found["reviewers"], found["samples"], found["agree"], found["kappa"]) == (
        ["ann", "bob"],
        10,
        10,
        1,
    )


def test_similar_samples_are_the_nearest_by_standardised_features(desk, store):
    X = desk.split.noisy.inputs.double().numpy()
    rows = np.array([record["row"] for record in desk.gallery.records])
    shown = X[rows]
    scaled = (X - shown.mean(axis=0)) / shown.std(axis=0)
    record = next(record for record in desk.gallery.records if record["suggested"] is not None)
    answer = client(desk, store).get(f"/similar/{record['row']}").json()
    distance = np.linalg.norm(scaled[rows] - scaled[record["row"]], axis=1)
    expected = [row for row in rows[np.argsort(distance)].tolist() if row != record["row"]]
    assert [row for row, _ in answer["similar"]][:20] == expected[:20]
    similarity = [value for _, value in answer["similar"]]
    assert similarity == sorted(similarity, reverse=True)
    classes = desk.split.classes
    assert [group["label"] for group in answer["trusted"]] == [
        classes[record["given"]], classes[record["suggested"]]
    ]  # fmt: skip
    trusted = desk.split.trusted
    T = (trusted.inputs.double().numpy() - shown.mean(axis=0)) / shown.std(axis=0)
    of_class = np.flatnonzero(trusted.given == record["given"])
    nearest = of_class[np.argsort(np.linalg.norm(T[of_class] - scaled[record["row"]], axis=1))][:4]
    assert [each["id"] for each in answer["trusted"][0]["samples"]] == trusted.ids[nearest].tolist()


def test_a_method_without_a_teacher_has_nothing_to_review(tmp_path):
    import sources
    import tiny
    from emlc import train

    changes = sources.csv_features(tmp_path) | {"trusted_per_class": None, "method": "cross-entropy"}
    run = train(tiny.settings(**changes, output=str(tmp_path / "run"), epochs=1))
    with pytest.raises(InputError, match="corrects no labels"):
        open_desk(run, 10, "")
