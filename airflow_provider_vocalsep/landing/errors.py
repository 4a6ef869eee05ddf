"""What can go wrong between the vendor's link and the object in the bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_vocalsep.api.errors import VocalSepError

if TYPE_CHECKING:
    from collections.abc import Mapping


class DownloadError(VocalSepError):
    """A stem could not be downloaded whole."""


class DownloadRefusedError(DownloadError):
    """The guard does not let this link be downloaded."""

    retryable = False


class LinkExpiredError(DownloadError):
    """The link no longer leads to the stem; the vendor has to be asked for a new one."""


class ContentChangedError(DownloadError):
    """The file behind the link became another one while it was downloaded."""


class NotAudioError(VocalSepError):
    """What was downloaded is not a stem."""


class LandingError(VocalSepError):
    """
    Some stems of a track did not land.

    :param message: What happened, what stayed landed, and what a retry does.
    :param failures: Why, by the name of the stem.
    :param landed: Names of the stems that are in the bucket and stay there.
    """

    def __init__(self, message: str, *, failures: Mapping[str, str], landed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.failures = dict(failures)
        self.landed = landed


class LandingRefusedError(LandingError, DownloadRefusedError):
    """Some stems did not land and never will by themselves: the guard refuses their links."""
