"""Errors between the vendor's link and the object in the bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VocalSepError

if TYPE_CHECKING:
    from collections.abc import Mapping


class DownloadError(VocalSepError):
    """A stem could not be downloaded completely."""


class DownloadRefusedError(DownloadError):
    """The guard refuses the link."""

    retryable = False


class LinkExpiredError(DownloadError):
    """The link has expired; the vendor's record has to be read again for a new one."""


class ContentChangedError(DownloadError):
    """The file behind the link changed during its download."""


class NotAudioError(VocalSepError):
    """The downloaded file is not a stem."""


class LandingError(VocalSepError):
    """
    Some stems of a track did not land.

    :param message: What failed, what landed, and what a retry does.
    :param failures: Reason by name of the stem.
    :param landed: Names of the stems that landed and stay in the bucket.
    """

    def __init__(self, message: str, *, failures: Mapping[str, str], landed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.failures = dict(failures)
        self.landed = landed


class LandingRefusedError(LandingError, DownloadRefusedError):
    """Some stems did not land because the guard refuses their links; a retry fails the same way."""
