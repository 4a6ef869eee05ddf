"""Where ledger entries are kept: S3 with conditional writes, or a dictionary."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from airflow_provider_vocalsep.ledger.entry import Identity, LedgerEntry
from airflow_provider_vocalsep.ledger.errors import LedgerConflictError, LedgerError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

#: S3's answers to a condition that does not hold: PutObject, "Conditional writes" (412; 409 while another
#: conditional write of the same key is under way; 404 when If-Match names a key that is gone).
_CONFLICT_CODES = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_ABSENT_CODES = frozenset({"NoSuchKey", "404", "NotFound"})


class LedgerStore(Protocol):
    """What the ledger needs of its storage. ``version`` is opaque; ``None`` means that there is no entry."""

    def read(self, identity: Identity) -> tuple[LedgerEntry | None, str | None]:
        """Return the entry and its version."""

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        """
        Replace the version that was read.

        :return: The version that was written, if the next write can be made conditional on it.
        :raises LedgerConflictError: when it is not the current one.
        """

    def uri_of(self, identity: Identity) -> str:
        """Say where the entry is, for messages."""


class MemoryLedgerStore:
    """A ledger that lasts as long as its process: for trying things out, and for tests."""

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
        """Say where the entry is, for messages."""
        return f"memory:{identity.digest}"


class S3LedgerStore:
    """
    Entries as S3 objects ``{prefix}/{first two hex}/{sha256}.json``, changed by compare-and-swap.

    At first use it finds out whether the store honours ``If-None-Match`` and ``If-Match``. One that does
    not is warned about once and then written plainly: still right for one run at a time.

    :param client: A boto3 S3 client.
    :param bucket: Bucket of the ledger.
    :param prefix: Key prefix of the ledger, without a slash at either end.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix
        self._conditional: bool | None = None

    def uri_of(self, identity: Identity) -> str:
        """Say where the entry is, for messages."""
        return f"s3://{self.bucket}/{self._key(identity)}"

    def read(self, identity: Identity) -> tuple[LedgerEntry | None, str | None]:
        """
        Return the entry and its ETag.

        :raises LedgerError: when it cannot be told what the ledger says.
        """
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self._key(identity))
            body = answer["Body"].read()
        except ClientError as e:
            if _code(e) in _ABSENT_CODES:
                return None, None
            raise self._unusable(identity, "read", e) from e
        except BotoCoreError as e:
            raise self._unusable(identity, "read", e) from e
        try:
            return LedgerEntry.model_validate_json(body), answer["ETag"]
        except ValidationError as e:
            raise LedgerError(
                f"Ledger entry {self.uri_of(identity)} is not readable ({e.error_count()} problems, first: "
                f"{e.errors()[0]['msg']}). Nothing was submitted. Put an older version of the object back, or "
                "delete it if you are sure that this track was never submitted; then clear the task."
            ) from e

    def write(self, identity: Identity, entry: LedgerEntry, version: str | None) -> str | None:
        """
        Replace the version that was read.

        :return: Its ETag, where the store honours conditions.
        :raises LedgerConflictError: when another writer was first.
        :raises LedgerError: when the store did not take it.
        """
        try:
            etag = self._put(self._key(identity), entry.to_json(), self._condition(version))
        except ClientError as e:
            if _code(e) in _CONFLICT_CODES or (version is not None and _code(e) in _ABSENT_CODES):
                raise LedgerConflictError(f"{self.uri_of(identity)} was changed by another writer") from e
            raise self._unusable(identity, "write", e) from e
        except BotoCoreError as e:
            raise self._unusable(identity, "write", e) from e
        return etag if self._conditional else None

    def _condition(self, version: str | None) -> dict[str, Any]:
        if self._conditional is None:
            self._conditional = self._honours_conditions()
            if not self._conditional:
                log.warning(
                    "The object store behind s3://%s ignores conditional writes (If-None-Match, If-Match). The "
                    "ledger works, but only one run at a time may use it: two at once could pay twice.",
                    self.bucket,
                )
        if not self._conditional:
            return {}
        return {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}

    def _honours_conditions(self) -> bool:
        """Try both conditions on an object of the ledger's own, where each must be refused."""
        key = f"{self.prefix}/_conditional-writes-probe"
        if self._accepts(key, {"IfNoneMatch": "*"}) and self._accepts(key, {"IfNoneMatch": "*"}):
            return False
        return not self._accepts(key, {"IfMatch": '"00000000000000000000000000000000"'})

    def _accepts(self, key: str, condition: dict[str, Any]) -> bool:
        try:
            self._put(key, b"Finds out whether this store honours conditional writes.", condition)
        except ClientError as e:
            if _code(e) in _CONFLICT_CODES:
                return False
            if _code(e) in ("NotImplemented", "501", "InvalidArgument"):
                return True  # the store has no such condition, which is as good as ignoring it
            raise LedgerError(f"The ledger s3://{self.bucket}/{self.prefix} cannot be written: {e}") from e
        except BotoCoreError as e:
            raise LedgerError(f"The ledger s3://{self.bucket}/{self.prefix} cannot be written: {e}") from e
        return True

    def _put(self, key: str, body: bytes, condition: dict[str, Any]) -> str:
        answer = self.client.put_object(
            Bucket=self.bucket, Key=key, Body=body, ContentType="application/json", **condition
        )
        return answer["ETag"]

    def _key(self, identity: Identity) -> str:
        return f"{self.prefix}/{identity.digest[:2]}/{identity.digest}.json"

    def _unusable(self, identity: Identity, verb: str, cause: Exception) -> LedgerError:
        return LedgerError(
            f"Could not {verb} the ledger entry {self.uri_of(identity)}: {cause}. What is not known to be unpaid "
            "is not paid again: check the bucket and its permissions; a retry goes on from what the ledger holds."
        )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
