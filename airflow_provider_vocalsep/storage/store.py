"""Objects in S3: get, put, list, head, with conditions and checksums, and with errors of this package."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from botocore.exceptions import ClientError

from airflow_provider_vocalsep.storage.errors import (
    ConflictError,
    NoBucketError,
    NotFoundError,
    StorageError,
)
from airflow_provider_vocalsep.storage.objects import (
    ListedObject,
    ObjectHead,
    ObjectStream,
    ObjectTag,
    base64_of,
)
from airflow_provider_vocalsep.storage.translation import IN_AIRFLOW, Advice, error_code, translate_errors
from airflow_provider_vocalsep.storage.upload_args import check_upload_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import IO

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.storage.location import Location

__all__ = ["ListedObject", "ObjectHead", "ObjectStore", "ObjectStream", "ObjectTag"]

log = logging.getLogger(__name__)

#: Objects that one request deletes (S3 API reference, DeleteObjects).
_DELETED_AT_ONCE = 1000

#: The S3 console's page of a folder (docs.aws.amazon.com, "Organizing objects in the Amazon S3 console").
_CONSOLE = "https://{region}.console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}/"

#: Answers of a store without conditional writes.
_UNSUPPORTED = frozenset({"501", "InvalidArgument", "NotImplemented"})


class ObjectStore:
    """
    An S3 API with one set of credentials. Its methods raise only :class:`StorageError` and its subclasses.

    :param client: A boto3 S3 client.
    :param advice: Advice in error messages.
    :param upload_args: Further arguments of every upload, with the names of S3's ``PutObject``; see
        :data:`~airflow_provider_vocalsep.storage.upload_args.UPLOAD_ARGS`.
    :raises DestinationError: ``upload_args`` holds an argument that cannot be passed.
    """

    def __init__(
        self,
        client: S3Client,
        *,
        advice: Advice = IN_AIRFLOW,
        upload_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.client = client
        self.advice = advice
        self.upload_args = check_upload_args(client, upload_args) if upload_args else {}

    def get(self, bucket: str, key: str) -> bytes:
        """Read a small object."""
        return self.get_versioned(bucket, key)[0]

    def get_versioned(self, bucket: str, key: str) -> tuple[bytes, str]:
        """Read a small object and its ETag, with quotes, for the condition of a write."""
        with self._errors("read", bucket, key):
            answer = self.client.get_object(Bucket=bucket, Key=key)
            return answer["Body"].read(), answer["ETag"]

    def open(
        self, bucket: str, key: str, *, byte_range: str | None = None, if_match: str | None = None
    ) -> ObjectStream:
        """
        Read an object as a stream.

        :param byte_range: Range to read, as ``bytes=0-99``.
        :param if_match: ETag with quotes of the version to read.
        :raises ConflictError: the object is another version.
        :raises InvalidRangeError: the object has no such range.
        """
        options: dict[str, Any] = {}
        if byte_range:
            options["Range"] = byte_range
        if if_match:
            options["IfMatch"] = if_match
        with self._errors("read", bucket, key):
            answer = self.client.get_object(Bucket=bucket, Key=key, **options)
        return ObjectStream(cast("Mapping[str, Any]", answer), self._errors("read", bucket, key))

    def download(self, bucket: str, key: str, file: IO[bytes]) -> None:
        """Copy an object into a file."""
        with self._errors("read", bucket, key):
            self.client.download_fileobj(bucket, key, file)

    def head(self, bucket: str, key: str) -> ObjectHead | None:
        """Return size, version and metadata of an object, ``None`` if it does not exist."""
        try:
            with self._errors("check", bucket, key):
                found = self.client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        except NotFoundError:
            return None
        return ObjectHead(
            bytes=found["ContentLength"],
            tag=ObjectTag.of_answer(found),
            content_type=found.get("ContentType", ""),
            metadata=found.get("Metadata", {}),
        )

    def list_objects(self, bucket: str, prefix: str) -> Iterator[ListedObject]:
        """List the objects whose keys start with a prefix, a thousand a request."""
        with self._errors("list", bucket, prefix):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Contents", []):
                    yield ListedObject(item["Key"], item["Size"], item.get("ETag", ""), item["LastModified"])

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes | IO[bytes],
        *,
        content_type: str,
        sha256: str | None = None,
        stem: Mapping[str, str] | None = None,
    ) -> ObjectTag:
        """
        Write an object in one piece.

        :param sha256: SHA-256 of the body, hex; the store rejects a body with another one.
        :param stem: Metadata of a stem. Only stems go into the storage class of ``upload_args``: all else
            is read again.
        """
        arguments = self._arguments(content_type, stem)
        if sha256:
            arguments["ChecksumSHA256"] = base64_of(sha256)
        with self._errors("write", bucket, key):
            answer = self.client.put_object(Bucket=bucket, Key=key, Body=body, **arguments)
        return ObjectTag.of_answer(answer)

    def swap(self, bucket: str, key: str, body: bytes, *, content_type: str, version: str | None) -> str:
        """
        Write an object if it is still the version that was read.

        :param version: ETag that was read, with quotes; ``None`` if the object did not exist.
        :return: ETag of the written version, with quotes.
        :raises ConflictError: another writer was first.
        """
        arguments = self._arguments(content_type)
        arguments |= {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            with self._errors("write", bucket, key):
                answer = self.client.put_object(Bucket=bucket, Key=key, Body=body, **arguments)
        except NotFoundError as e:
            if version is None:
                raise
            raise ConflictError(str(e)) from e  # If-Match names a deleted key
        return answer["ETag"]

    def honours_conditions(self, bucket: str, key: str) -> bool:
        """
        Return whether the store honours the condition of :meth:`swap`.

        :param key: Key of a test object, which this writes.
        :raises StorageError: the test object cannot be written.
        """
        # A store that honours it rejects the second write, or the first one if the object exists.
        if all(self._accepts(bucket, key, {"IfNoneMatch": "*"}) for _ in range(2)):
            return False
        return not self._accepts(bucket, key, {"IfMatch": '"00000000000000000000000000000000"'})

    def _accepts(self, bucket: str, key: str, condition: dict[str, Any]) -> bool:
        body = b"Tests whether this store honours conditional writes."
        try:
            with self._errors("write", bucket, key):
                self.client.put_object(
                    Bucket=bucket, Key=key, Body=body, **self._arguments("text/plain"), **condition
                )
        except ConflictError:
            return False
        except StorageError as e:
            cause = e.__cause__
            if not (isinstance(cause, ClientError) and error_code(cause) in _UNSUPPORTED):
                raise
            # No support counts as ignoring the condition.
        return True

    def delete(self, bucket: str, keys: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """
        Delete objects, a thousand a request.

        :return: Per request the number of deleted objects, and address and reason of each that remains.
        """
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            batch = keys[start : start + _DELETED_AT_ONCE]
            with self._errors("delete", bucket, batch[0]):
                answer = self.client.delete_objects(
                    Bucket=bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            failed = [
                f"s3://{bucket}/{error.get('Key')}: {error.get('Code')} {error.get('Message', '')}"
                for error in answer.get("Errors", [])
            ]
            yield len(batch) - len(failed), failed

    def presign(self, bucket: str, key: str, *, seconds: int) -> str:
        """Return a link with which anyone can read an object for that many seconds."""
        with self._errors("sign a link to", bucket, key):
            return self.client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
            )

    def console_url(self, location: Location) -> str:
        """Return a folder's address for a browser: in the S3 console, or at the endpoint of another store."""
        endpoint, prefix = self.client.meta.endpoint_url, quote(location.prefix)
        if "amazonaws.com" in endpoint:
            region = self.client.meta.region_name
            return _CONSOLE.format(region=region, bucket=location.bucket, prefix=prefix)
        return f"{endpoint}/{location.bucket}/{prefix}/"

    def check_writable(self, bucket: str, key: str) -> None:
        """
        Check that an object can be written.

        Begins a multipart upload and aborts it: this needs exactly the permission that landing needs, and
        leaves nothing behind. Some stores would create a missing bucket for it, so the bucket is checked
        first.

        :raises DestinationError: naming the bucket and the remedy.
        """
        self._check_bucket(bucket)
        self.abort_upload(bucket, key, self.begin_upload(bucket, key, content_type="audio/mpeg", stem={}))

    def _check_bucket(self, bucket: str) -> None:
        """Check that a bucket exists. Credentials without s3:ListBucket pass: they may still write."""
        try:
            with self._errors("write to", bucket, ""):
                self.client.head_bucket(Bucket=bucket)
        except (NotFoundError, NoBucketError) as e:
            raise NoBucketError(
                f"Could not write to s3://{bucket}: there is no bucket {bucket!r}. {self.advice.no_bucket}"
            ) from e
        except StorageError as e:
            if not isinstance(e.__cause__, ClientError):
                raise

    def begin_upload(self, bucket: str, key: str, *, content_type: str, stem: Mapping[str, str]) -> str:
        """
        Begin an upload in parts, each with its SHA-256, and return the upload's id.

        :param stem: Metadata of the stem.
        """
        with self._errors("write", bucket, key):
            answer = self.client.create_multipart_upload(
                Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256", **self._arguments(content_type, stem)
            )
        return answer["UploadId"]

    def send_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: IO[bytes], sha256: str
    ) -> dict[str, Any]:
        """
        Send a part of an upload.

        :param number: Number of the part, from 1.
        :param sha256: SHA-256 of its bytes, hex.
        :return: The part, for :meth:`complete_upload`.
        """
        checksum = base64_of(sha256)
        with self._errors("write", bucket, key):
            answer = self.client.upload_part(
                Bucket=bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,
                ChecksumSHA256=checksum,
            )
        return {"ETag": answer["ETag"], "PartNumber": number, "ChecksumSHA256": checksum}

    def complete_upload(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[dict[str, Any]]
    ) -> ObjectTag:
        """Make the object from its parts, which come in the order of their numbers."""
        with self._errors("write", bucket, key):
            answer = self.client.complete_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": cast("Any", parts)}
            )
        return ObjectTag.of_answer(answer)

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Remove the parts of an unfinished upload. Never raises: a failure is only logged."""
        try:
            self.client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        except Exception as e:
            log.warning(
                "Could not remove an unfinished upload of s3://%s/%s (%s). A lifecycle rule that aborts "
                "incomplete multipart uploads removes it.",
                bucket,
                key,
                e,
            )

    def _arguments(self, content_type: str, stem: Mapping[str, str] | None = None) -> dict[str, Any]:
        arguments = {**self.upload_args, "ContentType": content_type}
        if stem is None:
            arguments.pop("StorageClass", None)  # an archived object cannot be read
        else:
            arguments["Metadata"] = {**arguments.get("Metadata", {}), **stem}
        return arguments

    def _errors(self, verb: str, bucket: str, key: str) -> AbstractContextManager[None]:
        return translate_errors(verb, bucket, key, self.advice)
