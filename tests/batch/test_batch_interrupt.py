import os
import signal
import threading

import pytest

from backtest_batch.batch.interrupt import (
    Interrupted,
    exposed,
    forget_deferred,
    interruptible,
    shielded,
)


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_an_exception_that_knows_its_exit_code(number, code):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name) as raised, interruptible():
        send(number)
    assert raised.value.exit_code == code
    assert signal.getsignal(number) is before


def test_a_shield_keeps_it_until_its_end():
    done = []

    def work():
        with shielded():
            with shielded():
                send()
                done.append("inner")
            done.append("outer")
        done.append("never")

    with pytest.raises(Interrupted), interruptible():
        work()
    assert done == ["inner", "outer"]


def test_what_waits_inside_a_shield_lets_it_through():
    done = []

    def work():
        with shielded():
            send()
            done.append("shielded")
            with exposed():
                done.append("never")

    with pytest.raises(Interrupted), interruptible():
        work()
    assert done == ["shielded"]
    with pytest.raises(Interrupted), interruptible(), shielded(), exposed():
        send()


def test_a_second_signal_breaks_the_shield():
    done = []

    def work():
        with shielded():
            send()
            done.append("first")
            send()
            done.append("never")

    with pytest.raises(Interrupted), interruptible():
        work()
    assert done == ["first"]


def test_another_error_is_not_replaced():
    def work():
        with shielded():
            send()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), interruptible():
        work()


def test_a_signal_that_waits_is_dropped_on_request():
    with interruptible(), shielded():
        send()
        forget_deferred()
    with interruptible():
        pass


def test_other_threads_are_left_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with interruptible(), shielded(), exposed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
