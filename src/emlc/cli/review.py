"""Review the labels of a run in the browser, alone or with others: every decision is kept at once.

Serves the review page on this machine until Ctrl-C. Decisions go to RUN/review.sqlite, which `emlc apply`
takes. Needs `pip install 'emlc[review]'`.
"""

import getpass
import logging
import os
import secrets
import shlex
import socket
import sys
from importlib.util import find_spec

from jsonargparse import ArgumentParser, Namespace

from emlc.cli import run_arguments
from emlc.cli.results import show
from emlc.errors import InputError

_log = logging.getLogger(__name__)

USAGE = "RUN [options]"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ALL = {
    "0.0.0.0": (socket.AF_INET, "192.0.2.1", "127.0.0.1"),
    "::": (socket.AF_INET6, "2001:db8::1", "::1"),
}
"""Hosts that stand for all addresses of the machine: family, an address elsewhere, the loopback address."""
_PASSWORD = "EMLC_REVIEW_PASSWORD"
_SHORTEST = 8
"""Minimum number of characters of a password."""


def add_arguments(parser: ArgumentParser) -> None:
    run_arguments.add_weights_arguments(parser)
    parser.add_argument(
        "--samples",
        type=int,
        default=10_000,
        help="number of samples shown: a fifth at random, the others those most likely wrong",
    )
    parser.add_argument("--port", type=int, default=8765, help="port; 0: any that is free")
    parser.add_argument(
        "--host",
        type=str,
        default="127.0.0.1",
        help="address to listen on; others than this machine's own need a password, which is asked for, or "
        f"read from the environment variable {_PASSWORD}",
    )


def run(arguments: Namespace) -> None:
    if arguments.samples < 1:
        raise InputError(f"samples: expected 1 or more, got {arguments.samples}")
    password = None if arguments.host in _LOOPBACK else _password()
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise InputError(f"{' and '.join(missing)} not installed; install it: pip install 'emlc[review]'")
    with _listener(arguments.host, arguments.port) as listener:
        _serve(arguments, listener, password)


def _serve(arguments: Namespace, listener: socket.socket, password: str | None) -> None:
    trained = run_arguments.load_run(arguments)
    import uvicorn

    from emlc.review.store import Store
    from emlc.server import make_app, open_desk

    file = trained.folder / "review.sqlite"
    command = f"emlc apply {shlex.quote(str(trained.folder))} {shlex.quote(str(file))}"
    desk = open_desk(trained, arguments.samples, command)
    port, token = listener.getsockname()[1], secrets.token_urlsafe(24)
    store, _ = Store(file), desk.page  # made before somebody waits for it
    app = make_app(desk, store, token=token, password=password, port=port, host=arguments.host)
    if password is not None:
        _log.warning(
            f"host: everyone who reaches {arguments.host}:{port} and knows the password sees the data, and "
            "what is sent is not encrypted; over networks that you do not trust, use an SSH tunnel instead"
        )
    show(f"open http://{_name(arguments.host)}:{port}/?token={token}")
    show(f"decisions: {file}; Ctrl-C ends the server")
    sys.stdout.flush()
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, ws="none", lifespan="off"
    )
    config.timeout_graceful_shutdown = 5  # seconds
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        store.close()
    show(f"next: {command}")


def _name(host: str) -> str:
    """Return the host of the address that is printed, an IP address for all of the machine's."""
    if host in _ALL:
        host = _own_address(*_ALL[host])
    return f"[{host}]" if ":" in host else host


def _own_address(family: socket.AddressFamily, elsewhere: str, loopback: str) -> str:
    """Return the address that this machine has in the network, or the loopback address if it is in none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((elsewhere, 9))  # which sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return loopback


def _password() -> str:
    password = os.environ.get(_PASSWORD)
    if password is None and sys.stdin.isatty():
        password = getpass.getpass("password for the reviewers: ")
    if password is None or len(password) < _SHORTEST:
        raise InputError(
            f"host: others can reach this address, so it needs a password of at least {_SHORTEST} "
            f"characters, in the environment variable {_PASSWORD}"
        )
    return password


def _listener(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise InputError(f"port: expected 0 to {2**16 - 1}, got {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InputError(
            f"host: cannot listen on {host}:{port}: {error.strerror or error}; --port names another port"
        ) from error
