"""The answers of the server: the page, pictures by row number, and decisions."""

import csv
import io
from collections.abc import Callable
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from emlc.data import Samples
from emlc.errors import InputError
from emlc.review.agreement import agreements
from emlc.review.decisions import CHOSEN, COLUMNS
from emlc.review.outcomes import outcomes
from emlc.review.store import Store, StoredDecision
from emlc.server.access import Access
from emlc.server.desk import Desk, full_image, small_image
from emlc.server.messages import UnfitName, parse_decisions

_LARGEST = 64 * 2**20
"""Bytes of the largest message that is read."""
_HEADER = (*COLUMNS, CHOSEN, "reviewer", "time")
_KEPT = {"Cache-Control": "private, max-age=86400"}


def make_app(
    desk: Desk, store: Store, *, token: str, password: str | None, port: int, host: str = ""
) -> Starlette:
    """Build the ASGI application that shows a run, and keeps the decisions on it.

    Args:
        desk: What is shown.
        store: Where decisions are kept.
        token: Secret of the address.
        password: What may be typed in its place, if anything.
        port: The server's port.
        host: A name by which the server is reached, beside the machine's own.
    """
    classes = frozenset(desk.split.classes)

    def page(request: Request) -> Response:
        return HTMLResponse(desk.page)

    async def decide(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise HTTPException(415, "expected application/json")
        body = await _body(request)
        try:
            await run_in_threadpool(lambda: store.add(parse_decisions(body, desk.given, classes, desk.shown)))
        except InputError as error:
            return JSONResponse({"problem": str(error), "unfit_name": isinstance(error, UnfitName)}, 422)
        return JSONResponse({})

    def decisions(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 16):
            raise HTTPException(422, "after: expected a number")
        return JSONResponse({"decisions": [_sent(each) for each in store.latest(int(after))]})

    def agreement(request: Request) -> Response:
        return JSONResponse(
            {"agreements": [asdict(each) for each in agreements(store.latest(independent=True))]}
        )

    def similar(request: Request) -> Response:
        return JSONResponse(desk.similar(_shown(request, desk)))

    def text(request: Request) -> Response:
        if desk.split.noisy.texts is None:
            raise HTTPException(404)
        return PlainTextResponse(desk.split.noisy.texts[_shown(request, desk)].as_py() or "")

    def decisions_csv(request: Request) -> Response:
        headers = {"Content-Disposition": 'attachment; filename="decisions.csv"'}
        return Response(write_outcomes(store), media_type="text/csv; charset=utf-8", headers=headers)

    noisy, trusted = desk.split.noisy, desk.split.trusted
    routes = [
        Route("/", page),
        Route("/decisions", decide, methods=["POST"]),
        Route("/decisions", decisions, methods=["GET"]),
        Route("/decisions.csv", decisions_csv),
        Route("/agreement", agreement),
        Route("/similar/{row:int}", similar),
        Route("/texts/{row:int}", text),
        Route("/images/{row:int}", _pictures(noisy, full_image)),
        Route("/images/{row:int}/small", _pictures(noisy, small_image)),
        Route("/trusted/{row:int}/small", _pictures(trusted, small_image)),
    ]
    guard = Middleware(Access, token=token, password=password, port=port, host=host)
    return Starlette(routes=routes, middleware=[guard])


def write_outcomes(store: Store) -> str:
    """Write decisions.csv: one row per sample, with what the decisions of all reviewers come to."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, _HEADER)
    writer.writeheader()
    writer.writerows(outcome.row() for outcome in outcomes(store.latest()))
    return file.getvalue()


def _pictures(
    samples: Samples, picture: Callable[[Samples, int], tuple[str, bytes]]
) -> Callable[[Request], Response]:
    """Return what answers with the picture of a row; no path comes from the request."""

    def answer(request: Request) -> Response:
        row = request.path_params["row"]
        if samples.pictures is None or not 0 <= row < len(samples):
            raise HTTPException(404)
        try:
            kind, content = picture(samples, row)
        except Exception as error:  # PIL's plugins raise anything on broken files
            raise HTTPException(404, "the image cannot be read") from error
        return Response(content, media_type=kind, headers=_KEPT)

    return answer


def _shown(request: Request, desk: Desk) -> int:
    row: int = request.path_params["row"]
    if not desk.is_shown(row):
        raise HTTPException(404)
    return row


def _sent(decision: StoredDecision) -> dict[str, object]:
    """Return a decision as the page reads it."""
    kept = ("id", "decision", "label", "chosen", "reviewer", "time", "resolves", "seen", "number")
    labels = {"given": decision.given_label, "suggested": decision.suggested_label}
    return {name: getattr(decision, name) for name in kept} | labels


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        if (size := size + len(part)) > _LARGEST:
            raise HTTPException(413)
    return b"".join(parts)
