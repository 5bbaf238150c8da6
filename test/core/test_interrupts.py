"""Ctrl-C is recognised wherever it struck, and none is lost."""

from __future__ import annotations

import ctypes
import signal
import sys
import time

import pytest

from mosaic3d_core.interrupts import is_interrupt, lasting_interrupts, later_interrupts, noted_interrupts


def test_an_interrupt_hidden_as_the_cause_of_another_error_is_one():
    hidden = SystemError("returned a result with an exception set")
    hidden.__cause__ = SystemError("once more")
    hidden.__cause__.__cause__ = KeyboardInterrupt()
    assert is_interrupt(hidden)
    assert is_interrupt(KeyboardInterrupt())


def test_other_errors_are_none():
    assert not is_interrupt(SystemError("of its own"))
    assert not is_interrupt(None)
    loop = ValueError("its own cause")
    loop.__cause__ = loop
    assert not is_interrupt(loop)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_what_must_not_be_torn_apart(number):
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    done = []

    def start():
        with later_interrupts():
            signal.raise_signal(number)
            done.append("started")
            done.append("noted")

    try:
        with pytest.raises(KeyboardInterrupt):
            start()
        assert done == ["started", "noted"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        with later_interrupts():
            done.append("undisturbed")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interrupt_that_a_callback_from_c_could_only_ignore_strikes_again(capfd):
    @ctypes.CFUNCTYPE(None)
    def callback():  # as numba's, while it loads compiled code
        raise KeyboardInterrupt

    def work():
        with lasting_interrupts():
            callback()
            time.sleep(10)

    before, began = sys.unraisablehook, time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - began < 5
    assert sys.unraisablehook is before
    assert capfd.readouterr().err == ""


def test_other_errors_that_are_ignored_are_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    @ctypes.CFUNCTYPE(None)
    def callback():
        raise ValueError("its own")

    with lasting_interrupts():
        callback()
    assert [str(one.exc_value) for one in told] == ["its own"]


def test_the_first_interrupt_waits_for_the_end_of_a_piece_of_work_and_the_second_does_not():
    done = []

    def work(interrupts, pieces=5):
        with noted_interrupts() as stop_if_interrupted:
            for piece in range(pieces):
                stop_if_interrupted()
                for _ in range(interrupts if piece == 2 else 0):
                    signal.raise_signal(signal.SIGINT)
                done.append(piece)

    for interrupts, pieces, wanted in ((0, 5, [0, 1, 2, 3, 4]), (1, 5, [0, 1, 2]), (2, 5, [0, 1]), (1, 3, [0, 1, 2])):
        done.clear()
        if interrupts:
            with pytest.raises(KeyboardInterrupt):
                work(interrupts, pieces)
        else:
            work(interrupts, pieces)
        assert done == wanted
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_the_shell_keeps_from_a_background_job_is_not_noted():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted_interrupts() as stop_if_interrupted:
            signal.raise_signal(signal.SIGINT)
            stop_if_interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
