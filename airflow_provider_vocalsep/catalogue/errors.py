"""Errors of reading catalogues."""

from __future__ import annotations

import tempfile

from airflow_provider_vocalsep.api.errors import VocalSepError


class CatalogueError(VocalSepError):
    """A catalogue, or some of its rows, cannot be used. Nothing was submitted."""

    retryable = False


class NoRoomError(VocalSepError):
    """
    The disk has no room for temporary files. Nothing was submitted.

    :param cause: The error of the file system.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            f"Temporary files could not be written to {tempfile.gettempdir()}: {cause}. "
            "Nothing was submitted. Make room there, or set TMPDIR to a folder on another disk; "
            "a retry starts from the beginning."
        )
