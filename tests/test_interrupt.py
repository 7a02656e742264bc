"""Signals in a program of somebody else's, and in a command that is watched."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from backtest_batch.interrupt import (
    ENDING,
    Interrupted,
    begun,
    finished,
    heed,
    interruptible,
    signals_blocked,
    signals_deferred,
    taken,
)

CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_are_given_back():
    before = [signal.getsignal(number) for number in ENDING]
    yield
    assert [signal.getsignal(number) for number in ENDING] == before


@pytest.mark.parametrize(("number", "code"), CODES)
def test_before_anything_has_begun_a_signal_is_an_exception(number, code):
    with pytest.raises(Interrupted, match=number.name) as raised, interruptible():
        send(number)
    assert raised.value.exit_code == code


@pytest.mark.parametrize("times", [1, 3])
def test_what_has_begun_ends_where_it_heeds_a_signal(times):
    done = []

    def work():
        begun()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[:times]:
            send(number)
        done.append("begun")
        heed()
        done.append("never")

    with pytest.raises(Interrupted, match="SIGTERM"), interruptible():
        work()
    assert done == ["begun"]


def test_a_shield_keeps_it_until_its_end():
    done = []

    def work():
        with signals_deferred():
            with signals_deferred():
                send()
                done.append("inner")
            done.append("outer")
        done.append("never")

    with pytest.raises(Interrupted), interruptible():
        work()
    assert done == ["inner", "outer"]


def test_what_is_ending_is_not_interrupted_again():
    with interruptible():
        begun()
        send(signal.SIGTERM)
        with pytest.raises(Interrupted) as raised:
            heed()
        assert taken(raised.value).exit_code == 143
        send()
        heed()


def test_an_error_that_a_signal_has_caused_is_the_interruption():
    with interruptible():
        begun()
        assert taken(OSError("git has died")) is None
        send()
        assert taken(OSError("git has died")).exit_code == 130


def test_what_is_finished_is_not_interrupted():
    with interruptible():
        begun()
        send()
        finished(0)
        heed()
        send(signal.SIGTERM)
        heed()


def test_what_came_in_one_block_is_forgotten_in_the_next():
    with interruptible():
        begun()
        send()
    with interruptible():
        heed()


def test_a_sweep_inside_another_gives_the_outer_one_its_signals_back():
    with interruptible():
        begun()
        with pytest.raises(Interrupted), interruptible():
            send()
        heed()
        send(signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM"):
            heed()


def test_under_nohup_a_closed_terminal_is_no_signal():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            send(signal.SIGHUP)
            heed()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_other_threads_are_left_alone():
    before = [signal.getsignal(number) for number in ENDING]
    seen = []

    def work():
        with interruptible(), signals_deferred():
            heed()
            seen.append([signal.getsignal(number) for number in ENDING])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_process_is_born_without_signals():
    with signals_blocked():
        born = subprocess.Popen(["sleep", "100"])
    try:
        for number in ENDING:
            born.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            born.wait(0.2)
    finally:
        born.kill()
        born.wait()


WATCHED = """
import hashlib, os, signal, threading, time
from backtest_batch.interrupt import *
from backtest_batch import interrupt

def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)

interrupt.watch()
threading.Timer(0.1, send, {numbers}).start()
"""


def watched(text, *numbers):
    program = WATCHED.format(numbers=tuple(map(int, numbers))) + text
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_command_that_has_not_begun_ends_at_once(number, code):
    done = watched("time.sleep(100)", number)
    assert done.returncode == code
    assert done.stderr == f"Interrupted ({number.name}); nothing was run.\n"


@pytest.mark.parametrize(
    "work",
    [
        # No handler of Python's runs while this is computed.
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
        "try:\n    time.sleep(100)\nexcept BaseException:\n    time.sleep(100)",
        "lock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    ],
)
def test_it_does_so_whatever_it_is_doing(work):
    done = watched(work, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    assert done.returncode in (129, 130, 143)


def test_what_a_command_has_begun_ends_where_it_heeds_a_signal():
    done = watched(
        "begun()\n"
        "time.sleep(0.5)\n"
        "try:\n"
        "    heed()\n"
        "except Interrupted as error:\n"
        "    print(taken(error), 'recorded')\n"
        "    send(signal.SIGTERM, signal.SIGHUP)\n"
        "    heed()\n"
        "    os._exit(print(flush=True) or error.exit_code)\n",
        signal.SIGINT,
        signal.SIGINT,
    )
    assert (done.returncode, done.stdout) == (130, "SIGINT recorded\n\n")


def test_after_the_last_line_a_signal_changes_nothing():
    done = watched("finished(0)\ntime.sleep(0.5)\nprint('done')", signal.SIGINT, signal.SIGTERM)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_an_end_that_hangs_is_cut_off_when_it_is_asked_for_again():
    done = watched(
        "begun()\n"
        "remember('To go on: ...\\n')\n"
        "threading.Timer(1.5, send, [signal.SIGINT]).start()\n"
        "lock = threading.Lock()\n"
        "lock.acquire()\n"
        "lock.acquire()\n",
        signal.SIGTERM,
    )
    assert (done.returncode, done.stderr) == (143, "To go on: ...\n")


def test_copies_of_a_command_die_of_signals_as_usual():
    """As the processes of a pool that a module of the user's makes by forking."""
    done = watched(
        "begun()\n"
        "for _ in range(50):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        time.sleep(100)\n"
        "        os._exit(1)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    assert os.waitpid(child, 0)[1] == signal.SIGTERM\n"
        "heed()\n"
        "print('none came')\n",
    )
    assert (done.returncode, done.stdout) == (0, "none came\n"), done.stderr
