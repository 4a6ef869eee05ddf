"""What can go wrong with the object storage."""

from __future__ import annotations

from airflow_provider_vocalsep.api.errors import VocalSepError


class StorageError(VocalSepError):
    """The object storage did not do what was asked. Unless it is one of the subclasses, the same may work later."""


class ConflictError(StorageError):
    """The condition of a write does not hold: another writer was first."""


class InvalidRangeError(StorageError):
    """The object does not have the range of bytes that was asked for."""


class DestinationError(StorageError):
    """The bucket cannot be used until a person changes something: bucket, permission, ``upload_args``."""

    retryable = False


class NotFoundError(DestinationError):
    """There is no such object."""


class NoBucketError(DestinationError):
    """There is no such bucket."""


class AccessDeniedError(DestinationError):
    """The store refuses the credentials, or what they ask for."""
