"""The stores of ledger entries: S3 with conditional writes, or memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from airflow_provider_vocalsep.ledger.entry import Identity, LedgerEntry
from airflow_provider_vocalsep.ledger.errors import LedgerConflictError, LedgerError
from airflow_provider_vocalsep.storage.errors import ConflictError, NotFoundError, StorageError

if TYPE_CHECKING:
    from airflow_provider_vocalsep.storage.location import Location
    from airflow_provider_vocalsep.storage.store import ObjectStore

log = logging.getLogger(__name__)

_JSON = "application/json"


class LedgerStore(Protocol):
    """A store of entries. ``version`` is opaque; ``None`` means that there is no entry."""

    def read(self, identity: Identity) -> tuple[LedgerEntry | None, str | None]:
        """Return the entry and its version."""

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        """
        Replace the version that was read.

        :return: The new version; ``None`` if it cannot be the condition of the next write.
        :raises LedgerConflictError: it is not the current version.
        """

    def uri_of(self, identity: Identity) -> str:
        """Return the address of the entry, for messages."""


class MemoryLedgerStore:
    """A ledger in memory, for tests and for a task that has no other store."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[bytes, int]] = {}

    def read(self, identity: Identity) -> tuple[LedgerEntry | None, str | None]:
        """Return the entry and its version."""
        if identity.digest not in self._entries:
            return None, None
        body, version = self._entries[identity.digest]
        return LedgerEntry.model_validate_json(body), str(version)

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        """Replace the version that was read."""
        _, current = self._entries.get(identity.digest, (b"", 0))
        if str(current) != (version or "0"):
            raise LedgerConflictError(f"entry {identity.digest} was changed by another writer")
        self._entries[identity.digest] = entry.to_json(), current + 1
        return str(current + 1)

    def uri_of(self, identity: Identity) -> str:
        """Return the address of the entry, for messages."""
        return f"memory:{identity.digest}"


class S3LedgerStore:
    """
    Entries as S3 objects ``{first two hex}/{sha256}.json`` in a folder, changed by compare-and-swap.

    The first write tests whether the store honours ``If-None-Match`` and ``If-Match``. If it does not, a
    warning is logged and entries are written without conditions: correct for one run at a time.

    :param store: The object store.
    :param location: Folder of the ledger.
    """

    def __init__(self, store: ObjectStore, location: Location) -> None:
        self.store = store
        self.location = location
        self._conditional: bool | None = None

    def uri_of(self, identity: Identity) -> str:
        """Return the address of the entry, for messages."""
        return self.location.uri_of(self._key(identity))

    def read(self, identity: Identity) -> tuple[LedgerEntry | None, str | None]:
        """
        Return the entry and its ETag.

        :raises LedgerError: the entry cannot be read. It may exist.
        """
        try:
            body, etag = self.store.get_versioned(self.location.bucket, self._key(identity))
        except NotFoundError:
            return None, None
        except StorageError as e:
            raise self._unusable(identity, "read", e) from e
        try:
            return LedgerEntry.model_validate_json(body), etag
        except ValidationError as e:
            raise LedgerError(
                f"Ledger entry {self.uri_of(identity)} is not readable ({e.error_count()} problems, first: "
                f"{e.errors()[0]['msg']}). Nothing was submitted. Put an older version of the object back, "
                "or delete it if you are sure that this track was never submitted; then clear the task."
            ) from e

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        """
        Replace the version that was read.

        :return: The new ETag; ``None`` if the store ignores conditions.
        :raises LedgerConflictError: another writer was first.
        :raises LedgerError: the store refused the write, or did not answer.
        """
        bucket, key, body = self.location.bucket, self._key(identity), entry.to_json()
        try:
            if self._honours_conditions():
                return self.store.swap(bucket, key, body, content_type=_JSON, version=version)
            self.store.put(bucket, key, body, content_type=_JSON)
        except ConflictError as e:
            raise LedgerConflictError(f"{self.uri_of(identity)} was changed by another writer") from e
        except StorageError as e:
            raise self._unusable(identity, "write", e) from e
        return None

    def _honours_conditions(self) -> bool:
        if self._conditional is None:
            test_key = f"{self.location.prefix}/_conditional-writes-probe"
            self._conditional = self.store.honours_conditions(self.location.bucket, test_key)
            if not self._conditional:
                log.warning(
                    "The object store behind s3://%s ignores conditional writes (If-None-Match, If-Match). "
                    "The ledger works, but only one run at a time may use it: two at once could pay twice.",
                    self.location.bucket,
                )
        return self._conditional

    def _key(self, identity: Identity) -> str:
        # Not Location.key: without a prefix the first version wrote "/ab/...", and another key pays again.
        return f"{self.location.prefix}/{identity.digest[:2]}/{identity.digest}.json"

    def _unusable(self, identity: Identity, verb: str, cause: StorageError) -> LedgerError:
        return LedgerError(
            f"Could not {verb} the ledger entry {self.uri_of(identity)}: {cause} A track that may be paid is "
            "not paid again: check the bucket and its permissions; a retry continues from the ledger."
        )
