"""Records for Argilla: what is in them, and what its own SDK sends of them where it is installed."""

import base64
import io
import json
from dataclasses import replace
from uuid import uuid4

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from emlc import InputError
from emlc.exports import argilla as module
from emlc.exports import export


def exported(run, folder):
    """The records and the settings."""
    written, said = export(run, "argilla", folder)
    settings = json.loads((written / ".argilla" / "settings.json").read_text(encoding="ascii"))
    return json.loads((written / "records.json").read_text(encoding="ascii")), settings, said


def test_pixels_with_hostile_names(pixel_run, tmp_path):
    records, settings, said = exported(pixel_run, tmp_path / "out")
    noisy = pixel_run.split().noisy
    table = pixel_run.correct_labels(noisy).set_index("id")
    (question,) = settings["questions"]
    assert [option["value"] for option in question["settings"]["options"]] == list(pixel_run.schema.classes)
    qualities = [record["metadata"]["label_quality"] for record in records]
    assert qualities == sorted(qualities)
    assert said == f"{len(table)} records, the worst label first"
    assert {record["id"] for record in records} == set(table.index)
    pixels = dict(zip(noisy.ids, noisy.inputs, strict=True))
    for record in records:
        row = table.loc[record["id"]]
        suggestion = record["suggestions"]["label"]
        assert suggestion["value"] == row["corrected_label"]
        assert suggestion["score"] == pytest.approx(row["corrected_probability"])
        assert record["metadata"]["given_label"] == row["given_label"]
        assert record["metadata"]["retain_weight"] == pytest.approx(row["retain_weight"])
        kind, content = record["fields"]["image"].split(",")
        assert kind == "data:image/png;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        np.testing.assert_array_equal(picture, pixels[record["id"]][0])


def test_rows_and_texts(table_run, tmp_path, monkeypatch):
    records, settings, _ = exported(table_run, tmp_path / "rows")
    split = table_run.split()
    columns, rows = (
        table_run.schema.feature_columns,
        dict(zip(split.noisy.ids, split.noisy.inputs, strict=True)),
    )
    for record in records:
        lines = [f"{name}: {value}" for name, value in zip(columns, rows[record["id"]].tolist(), strict=True)]
        assert record["fields"] == {"values": "\n".join(lines)}
    assert settings["fields"][0]["settings"] == {"type": "text", "use_markdown": False}
    texts = [f"</script> {k}\n$x" for k in range(len(split.noisy))]
    split = replace(split, noisy=replace(split.noisy, texts=pa.array(texts, pa.large_string())))
    monkeypatch.setattr(type(table_run), "split", lambda self: split)
    records, _, _ = exported(table_run, tmp_path / "texts")
    assert {r["id"]: r["fields"]["text"] for r in records} == dict(zip(split.noisy.ids, texts, strict=True))


def test_an_image_that_is_too_large_becomes_a_smaller_copy(file_run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_SHOWN", 10)
    monkeypatch.setattr(module, "_SIDE", 3)
    records, _, said = exported(file_run, tmp_path / "out")
    assert said.endswith(f"; {len(records)} images are smaller copies, as Argilla takes 5 MB")
    for record in records:
        kind, content = record["fields"]["image"].split(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (2, 3)


def test_refused(table_run, tmp_path):
    for classes, message in (
        (("only",), "argilla: a question needs two labels or more; the run has 1 class"),
        (
            ("a", "b" * 201),
            "up to 200 characters, this one has 201",
        ),
    ):
        run = replace(table_run, schema=replace(table_run.schema, classes=classes))
        with pytest.raises(InputError, match=message):
            export(run, "argilla", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class Server:
    """As much of a server as ``Dataset.from_disk`` asks for: it keeps what it is sent.

    Attributes:
        sent: The contents of the requests that make something, by the last word of their path.
    """

    def __init__(self):
        self.workspace, self.dataset, self.sent = str(uuid4()), str(uuid4()), {}

    def answer(self, request: httpx.Request) -> httpx.Response:
        kind = request.url.path.split("/")[-1]
        if request.method in ("POST", "PUT"):
            sent = json.loads(request.content or "{}")
            self.sent.setdefault(kind, []).extend(sent["items"] if kind == "bulk" else [sent])
            return httpx.Response(200, json=self._made(kind, sent))
        mine = {"id": self.workspace, "name": "mine", "username": "ann"} | TIMES
        items = (
            [mine] if kind == "workspaces" else [self._made(kind, each) for each in self.sent.get(kind, [])]
        )
        return httpx.Response(200, json=mine | {"items": items})

    def _made(self, kind, sent):
        if kind == "bulk":
            added = {"id": str(uuid4()), "status": "pending", "suggestions": [], "responses": []}
            return {"items": [item | added for item in sent["items"]]}
        ids = {"id": self.dataset, "workspace_id": self.workspace, "dataset_id": self.dataset}
        return {"name": "first"} | sent | ids | TIMES


TIMES = {"inserted_at": "2026-01-01T00:00:00", "updated_at": "2026-01-01T00:00:00"}


@pytest.mark.parametrize("which", ["table_run", "pixel_run"])
def test_argilla_loads_the_folder(which, request, tmp_path):
    """By ``Dataset.from_disk``, for a server that only keeps what it is sent."""
    rg = pytest.importorskip("argilla")
    run = request.getfixturevalue(which)
    records, _, _ = exported(run, tmp_path / "out")
    server = Server()
    client = rg.Argilla("http://localhost", "key", mounts={"http://": httpx.MockTransport(server.answer)})
    rg.Dataset.from_disk(str(tmp_path / "out"), workspace="mine", client=client)
    (question,), (field,) = server.sent["questions"], server.sent["fields"]
    assert [option["value"] for option in question["settings"]["options"]] == list(run.schema.classes)
    assert {field["name"]} == records[0]["fields"].keys()
    sent = server.sent["bulk"]
    assert [each["external_id"] for each in sent] == [record["id"] for record in records]
    assert [each["fields"] for each in sent] == [record["fields"] for record in records]
    assert [each["metadata"] for each in sent] == [record["metadata"] for record in records]
    suggested = [record["suggestions"]["label"] for record in records]
    for key in ("value", "score", "agent"):
        assert [each["suggestions"][0][key] for each in sent] == [suggestion[key] for suggestion in suggested]
