"""Signals unwind a process, and a killed parent takes its child along."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from emlc.runtime.signals import Terminated, stoppable

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1]])
time.sleep(60)
"""
CHILD = """
import time
from emlc.runtime.signals import end_with_parent
end_with_parent()
print("started", flush=True)
time.sleep(60)
"""


def test_a_process_ends_when_its_parent_is_killed():
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "started\n"
        parent.kill()
        assert parent.communicate(timeout=20) == ("", None)  # the child has closed its output, too


def test_a_second_signal_does_not_disturb_the_clearing_up():
    steps, before = [], signal.getsignal(signal.SIGTERM)

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("cleared up")

    with pytest.raises(Terminated), stoppable():
        work()
    assert steps == ["cleared up"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_thread_leaves_signals_alone():
    with stoppable():
        handler = signal.getsignal(signal.SIGTERM)
        seen = []

        def look():
            with stoppable():
                seen.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert seen == [handler]


def test_a_forked_process_ends_as_it_would_have():
    with stoppable():
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
