"""What the bucket says: its errors in words, its objects' heads, and what uploads may be told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import S3Transfer
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from botocore.validate import ParamValidator

from airflow_provider_vocalsep.storage.errors import DestinationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

#: What S3 answers when a person has to change something (S3 API reference, "Error responses").
_NO_BUCKET = frozenset({"NoSuchBucket"})
_FORBIDDEN = frozenset(
    {
        "403",
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "Forbidden",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "Unauthorized",
        "401",
    }
)
_BAD_ARGUMENT = frozenset(
    {
        "AccessControlListNotSupported",
        "InvalidArgument",
        "InvalidBucketName",
        "InvalidEncryptionAlgorithmError",
        "InvalidRequest",
        "InvalidStorageClass",
        "InvalidTag",
        "KMS.DisabledException",
        "KMS.InvalidKeyUsageException",
        "KMS.NotFoundException",
        "MalformedACLError",
        "MetadataTooLarge",
        "PermanentRedirect",
    }
)
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})

#: ``upload_args`` that would say what landing itself says, or that every later read would need as well.
_NOT_OURS_TO_PASS = frozenset(
    {"ChecksumAlgorithm", "ContentType", "ContentEncoding", "RequestPayer"}
    | {name for name in S3Transfer.ALLOWED_UPLOAD_ARGS if name.startswith(("SSECustomer", "Checksum"))}
)

#: Everything else that boto3 lets an upload be told: encryption, storage class, tags, ACL, metadata, ...
UPLOAD_ARGS = frozenset(S3Transfer.ALLOWED_UPLOAD_ARGS) - _NOT_OURS_TO_PASS

#: Metadata that the landing writes, and later believes.
METADATA_PREFIXES = ("sha256", "vocalsep-")


def check_upload_args(client: S3Client, upload_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Make sure that uploads can be told what a user wants them told.

    :raises DestinationError: naming what is unknown or of the wrong form, and what there is.
    """
    args = dict(upload_args or {})
    unknown = sorted(set(args) - UPLOAD_ARGS)
    if unknown:
        raise DestinationError(
            f"upload_args: {', '.join(map(repr, unknown))} cannot be passed. There are: {', '.join(sorted(UPLOAD_ARGS))}."
        )
    shape = client.meta.service_model.operation_model("PutObject").input_shape
    assert shape is not None  # noqa: S101 - PutObject has arguments
    report = ParamValidator().validate({"Bucket": "b", "Key": "k", **args}, shape)
    if report.has_errors():
        raise DestinationError(f"upload_args: {report.generate_report()}.")
    taken = [name for name in args.get("Metadata", {}) if name.lower().startswith(METADATA_PREFIXES)]
    if taken:
        raise DestinationError(
            f"upload_args: Metadata names {', '.join(taken)} are used by the landing itself."
        )
    return args


def check_bucket(client: S3Client, bucket: str) -> None:
    """
    Make sure that a bucket exists, as far as one may ask.

    :raises DestinationError: it does not.
    :raises StorageError: it cannot be told.
    """
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as e:
        if _code(e) in _ABSENT | _NO_BUCKET:
            raise _no_bucket(bucket, f"Could not write to s3://{bucket}") from e
    except (NoCredentialsError, ParamValidationError) as e:
        raise DestinationError(f"Could not look at s3://{bucket}: {e}. Check the AWS connection.") from e
    except BotoCoreError as e:
        raise StorageError(f"Could not look at s3://{bucket}: {e}. A retry tries again.") from e


@contextmanager
def s3_errors(bucket: str, key: str, verb: str) -> Iterator[None]:
    """
    Say in words what the bucket's errors mean.

    :param verb: What was to be done with the object, for the message.
    :raises DestinationError: a person has to change something.
    :raises StorageError: it may work later.
    """
    where = f"s3://{bucket}/{key}"
    try:
        yield
    except ClientError as e:
        raise _explained(e, bucket, where, verb) from e
    except (NoCredentialsError, ParamValidationError) as e:
        raise DestinationError(f"Could not {verb} {where}: {e}. Check the AWS connection.") from e
    except BotoCoreError as e:
        raise StorageError(f"Could not {verb} {where}: {e}. A retry goes on from what is there.") from e


def is_absent(error: BaseException | None) -> bool:
    """Tell whether an error of the bucket says that there is no such object."""
    return isinstance(error, ClientError) and _code(error) in _ABSENT


def head(client: S3Client, bucket: str, key: str) -> HeadObjectOutputTypeDef | None:
    """
    Return what the bucket knows about an object, ``None`` if there is none.

    :raises DestinationError: it may not be looked at.
    :raises StorageError: the bucket did not answer.
    """
    try:
        with s3_errors(bucket, key, "look at"):
            return client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except DestinationError as e:
        if is_absent(e.__cause__):
            return None
        raise


def _explained(error: ClientError, bucket: str, where: str, verb: str) -> DestinationError | StorageError:
    code = _code(error)
    said = error.response.get("Error", {}).get("Message") or code
    if code in _ABSENT:
        return DestinationError(
            f"Could not {verb} {where}: there is no such object, or no bucket {bucket!r}."
        )
    if code in _NO_BUCKET:
        return _no_bucket(bucket, f"Could not {verb} {where}")
    if code in _FORBIDDEN:
        return DestinationError(
            f"Could not {verb} {where}: the bucket {bucket!r} refuses it ({code}: {said}). The AWS connection needs "
            f"s3:PutObject, s3:GetObject and s3:AbortMultipartUpload on the destination and s3:ListBucket on the "
            "bucket; if the bucket demands encryption or an ACL, say so in upload_args."
        )
    if code in _BAD_ARGUMENT:
        return DestinationError(
            f"Could not {verb} {where}: the bucket {bucket!r} does not accept the request ({code}: {said}). Check the "
            "region of the AWS connection and upload_args."
        )
    return StorageError(
        f"Could not {verb} {where}: the bucket answered {code} ({said}). A retry goes on from what is there."
    )


def _no_bucket(bucket: str, what: str) -> DestinationError:
    return DestinationError(
        f"{what}: there is no bucket {bucket!r}. Create it, or correct the destination; then clear this task."
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
