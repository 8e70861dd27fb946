"""Who may see the review: those who know the token of the address, or the password.

Either is exchanged for a cookie, so that addresses that are copied from the browser hold no secret. A page of
another site must not reach the server through a reviewer's browser: requests name a host that is this
machine (against DNS rebinding), and what writes comes from the server's own page (``Origin``).
"""

import asyncio
import hmac
import ipaddress
import secrets
import socket
from functools import cache
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SECONDS_PER_GUESS = 1.0
"""Wait after a wrong password; only one password is tried at a time."""
_LONGEST_FORM = 4096
_FORM = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>emlc review</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"></head>
<body><main><h1>emlc review</h1><form method="post" action="/login">
<p><label>Password <input type="password" name="password" autocomplete="current-password" required></label>
<button>Open</button></p><p role="alert">{problem}</p></form></main></body></html>"""
_FORM_POLICY = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


class Access:
    """ASGI middleware that lets no stranger through, and sets the headers that keep the browser strict.

    Args:
        app: What it guards.
        token: Secret of the address.
        password: Secret to type in; None: there is none, and the token is the only way.
        port: Port of the server. Browsers share cookies between ports, so that its name has it.
        host: A name by which the machine is reached, beside its own and its addresses.
    """

    def __init__(self, app: ASGIApp, token: str, password: str | None, port: int, host: str = "") -> None:
        self._app, self._token, self._password, self._host = app, token, password, host
        self._cookie, self._session = f"emlc_review_{port}", secrets.token_urlsafe(32)
        self._guess = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        response = await self._response(Request(scope, receive))
        await (response or self._app)(scope, receive, send_strictly)

    async def _response(self, request: Request) -> Response | None:
        """Return the answer to a stranger, or None if the request may pass."""
        if not is_this_machine(request.headers.get("host", ""), self._host):
            return PlainTextResponse(
                "The address names a host that is not this machine, by the names that it knows: use its IP "
                "address.",
                400,
            )
        if request.method not in ("GET", "HEAD") and not is_own(request.headers):
            return PlainTextResponse("The request comes from another page.", 403)
        if token := request.query_params.get("token"):
            return self._admit() if _equal(token, self._token) else self._refuse()
        if self._password is not None and request.url.path == "/login" and request.method == "POST":
            return await self._log_in(request, self._password)
        is_known = _equal(request.cookies.get(self._cookie, ""), self._session)
        return None if is_known else self._refuse()

    async def _log_in(self, request: Request, password: str) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LONGEST_FORM:
                return self._refuse()
        typed = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
        async with self._guess:
            if _equal(typed, password):
                return self._admit()
            await asyncio.sleep(_SECONDS_PER_GUESS)
        return self._refuse("This is not the password.")

    def _admit(self) -> Response:
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie, self._session, httponly=True, samesite="lax")
        return response

    def _refuse(self, problem: str = "") -> Response:
        if self._password is None:
            return PlainTextResponse(
                "Open the address that `emlc review` prints: its token is missing or wrong.", 403
            )
        policy = {"Content-Security-Policy": _FORM_POLICY}
        return HTMLResponse(_FORM.format(problem=problem), 403, headers=policy)


def is_this_machine(host: str, known: str = "") -> bool:
    """Return whether a Host header is an address or a name of this machine; any address will do.

    A page of another site can have its own name point at this machine, but not at an address.

    Args:
        host: The header.
        known: Another name of this machine.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name != "" and name.lower() in (*_names(), known.lower())
    return True


@cache
def _names() -> frozenset[str]:
    return frozenset(name.lower() for name in ("localhost", socket.gethostname(), socket.getfqdn()))


def is_own(headers: Headers) -> bool:
    """Return whether a request that writes comes from a page of the server that it is sent to."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] == headers.get("host")


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
