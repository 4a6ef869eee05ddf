"""What is wrong with catalogues."""

from __future__ import annotations

import tempfile

from airflow_provider_vocalsep.api.errors import VocalSepError


class CatalogueError(VocalSepError):
    """A catalogue cannot be used as it is. Nothing of it was submitted."""

    retryable = False


class NoRoomError(VocalSepError):
    """
    There is no room for temporary files. Nothing was submitted.

    :param cause: What the file system said.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(
            f"Temporary files could not be written to {tempfile.gettempdir()}: {cause}. Nothing was submitted. Make room "
            "there, or set TMPDIR to a folder that has some; a retry begins anew."
        )
