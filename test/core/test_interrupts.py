"""Ctrl-C is recognised wherever it struck."""

from __future__ import annotations

import signal

import pytest

from mosaic3d_core.interrupts import is_interrupt, later_interrupts


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
