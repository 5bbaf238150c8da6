"""Ctrl-C is recognised wherever it struck."""

from __future__ import annotations

from mosaic3d_core.interrupts import is_interrupt


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
