"""S3's errors, translated once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
)

from airflow_provider_vocalsep.storage.errors import (
    AccessDeniedError,
    ConflictError,
    DestinationError,
    InvalidRangeError,
    NoBucketError,
    NotFoundError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# S3 API reference, "Error responses". HEAD answers have no body, so their codes are HTTP's.
_NOT_FOUND = frozenset({"404", "NoSuchKey", "NotFound"})
_DENIED = frozenset(
    {
        "401",
        "403",
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "Forbidden",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "Unauthorized",
    }
)
_INVALID = frozenset(
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
#: A condition that does not hold: 412, and 409 while another conditional write of the same key is under way.
_CONFLICT = frozenset({"409", "412", "ConditionalRequestConflict", "PreconditionFailed"})
_BAD_RANGE = frozenset({"416", "InvalidRange", "RequestedRangeNotSatisfiable"})


@dataclass(frozen=True)
class Advice:
    """
    What a message advises, by who reads it.

    :param denied: For credentials that may not do what was asked.
    :param no_bucket: For a bucket that does not exist.
    :param credentials: For credentials or an endpoint that are missing.
    :param passing: For an error that may pass.
    """

    denied: str
    no_bucket: str
    credentials: str
    passing: str


#: For readers of an Airflow task's log.
IN_AIRFLOW = Advice(
    denied="The AWS connection needs s3:PutObject, s3:GetObject and s3:AbortMultipartUpload on the destination and "
    "s3:ListBucket on the bucket; if the bucket demands encryption or an ACL, say so in upload_args.",
    no_bucket="Create it, or correct the address; then clear this task.",
    credentials="Check the AWS connection.",
    passing="A retry goes on from what is there.",
)

_CREDENTIALS = (
    "Check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or --profile, and for a store other "
    "than AWS --endpoint-url."
)

#: For readers of the page in Airflow's UI.
ON_A_PAGE = Advice(
    denied="The AWS connection of the destination needs s3:ListBucket and s3:GetObject.",
    no_bucket="Correct destination= of the DAG, or [vocalsep] destinations.",
    credentials="Check the AWS connection of the destination.",
    passing="The page tries again by itself.",
)

#: For people at a command line.
AT_A_SHELL = Advice(
    denied=_CREDENTIALS,
    no_bucket=f"Check the address. {_CREDENTIALS}",
    credentials=_CREDENTIALS,
    passing="Try again.",
)


@contextmanager
def translate_errors(verb: str, bucket: str, key: str, advice: Advice) -> Iterator[None]:
    """
    Translate what boto3 raises.

    :param verb: What was to be done with the object, for the message.
    :param key: Its key; empty for the bucket itself.
    :raises DestinationError: a person has to change something.
    :raises StorageError: it may work later.
    """
    where = f"s3://{bucket}/{key}" if key else f"s3://{bucket}"
    what = f"Could not {verb} {where}"
    try:
        yield
    except ClientError as e:
        raise _translated(e, what, bucket, advice) from e
    except (NoCredentialsError, ParamValidationError) as e:
        raise DestinationError(f"{what}: {e}. {advice.credentials}") from e
    except EndpointConnectionError as e:
        hint = advice.credentials if advice is AT_A_SHELL else advice.passing
        raise StorageError(f"{what}: {e} {hint}") from e
    except BotoCoreError as e:
        raise StorageError(f"{what}: {e}. {advice.passing}") from e


def error_code(error: ClientError) -> str:
    """Return S3's code of an error; an HTTP status where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _translated(error: ClientError, what: str, bucket: str, advice: Advice) -> StorageError:
    code = error_code(error)
    said = error.response.get("Error", {}).get("Message") or code
    if code in _NOT_FOUND:
        return NotFoundError(f"{what}: there is no such object, or no bucket {bucket!r}.")
    if code == "NoSuchBucket":
        return NoBucketError(f"{what}: there is no bucket {bucket!r}. {advice.no_bucket}")
    if code in _DENIED:
        return AccessDeniedError(f"{what}: the store refuses it ({code}: {said}). {advice.denied}")
    if code in _CONFLICT:
        return ConflictError(f"{what}: another writer was first ({code}: {said}).")
    if code in _BAD_RANGE:
        return InvalidRangeError(f"{what}: it does not have that range of bytes.")
    if code in _INVALID:
        return DestinationError(
            f"{what}: the bucket {bucket!r} does not accept the request ({code}: {said}). Check the region of the AWS "
            "connection and upload_args."
        )
    return StorageError(f"{what}: the store answered {code} ({said}). {advice.passing}")
