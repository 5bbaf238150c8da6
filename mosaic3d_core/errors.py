"""Errors a user can act on. Each message says what was wrong, what was expected and what to do."""

from __future__ import annotations


class Mosaic3DError(ValueError):
    """Base of all errors caused by input; the command line prints them as one line."""


class SequenceError(Mosaic3DError):
    """An RGB-D sequence that cannot be read."""


class MapFileError(Mosaic3DError):
    """A map file that cannot be read or written."""


class CheckpointError(Mosaic3DError):
    """A checkpoint that cannot be loaded, or does not fit."""


class QueryError(Mosaic3DError):
    """A query that cannot be answered as asked."""


class FrameError(Mosaic3DError):
    """A camera frame, pose or calibration that cannot be used.

    Attributes:
        reason: Short snake_case key under which the dropped frame is counted.
    """

    def __init__(self, message: str, reason: str = "bad_frame") -> None:
        super().__init__(message)
        self.reason = reason


class MissingDependencyError(Mosaic3DError, ImportError):
    """An optional package is needed and not installed; the message says which."""
