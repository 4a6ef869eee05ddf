"""Errors of the object storage."""

from __future__ import annotations

from airflow_provider_vocalsep.api.errors import VocalSepError


class StorageError(VocalSepError):
    """A request to the object storage failed. A later one may succeed, unless it is a DestinationError."""


class ConflictError(StorageError):
    """The condition of a request does not hold: another writer was first."""


class InvalidRangeError(StorageError):
    """The object does not have the requested range of bytes."""


class DestinationError(StorageError):
    """The bucket cannot be used until a person changes the bucket, a permission or ``upload_args``."""

    retryable = False


class NotFoundError(DestinationError):
    """The object does not exist."""


class NoBucketError(DestinationError):
    """The bucket does not exist."""


class AccessDeniedError(DestinationError):
    """The store refuses the credentials, or does not permit them the request."""
