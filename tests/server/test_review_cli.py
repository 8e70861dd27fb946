"""The command: where it listens, what it prints, and that a kill loses nothing."""

import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from emlc.cli import main
from emlc.cli.review import _name
from emlc.review.store import Store

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")


def test_a_port_that_is_in_use_is_named(text_like_run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["review", str(text_like_run.folder), "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_address_that_is_printed_is_one_that_the_server_takes(host):
    printed = _name(host)
    found = ipaddress.ip_address(printed.removeprefix("[").removesuffix("]"))
    assert not found.is_unspecified
    assert found.version == (4 if host == "0.0.0.0" else 6)


@pytest.mark.parametrize("password", [None, "short"])
def test_other_hosts_need_a_password(password, text_like_run, capsys, monkeypatch):
    if password is not None:
        monkeypatch.setenv("EMLC_REVIEW_PASSWORD", password)
    assert main(["review", str(text_like_run.folder), "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "needs a password of at least 8 characters" in capsys.readouterr().err
    assert not (text_like_run.folder / "review.sqlite").exists()


def test_the_command_serves_until_it_is_stopped(text_like_run):
    command = [sys.executable, "-m", "emlc", "review", str(text_like_run.folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = re.fullmatch(r"open (http://127\.0\.0\.1:(\d+)/)\?token=(\S{32})\n", process.stdout.readline())
    assert address is not None
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        assert client.get(address[1]).status_code == 403
        assert "emlc review" in client.get(f"{address[1]}?token={address[3]}").text
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"next: emlc apply {text_like_run.folder}" in out
    Store(text_like_run.folder / "review.sqlite").close()
