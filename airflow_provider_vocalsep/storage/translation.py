"""Translation of boto3's errors into those of this package."""

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
from s3transfer.exceptions import RetriesExceededError

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
#: The condition does not hold (412), or another conditional write of the same key is under way (409).
_CONFLICT = frozenset({"409", "412", "ConditionalRequestConflict", "PreconditionFailed"})
_BAD_RANGE = frozenset({"416", "InvalidRange", "RequestedRangeNotSatisfiable"})


@dataclass(frozen=True)
class Advice:
    """
    Advice in error messages, by their reader.

    :param denied: For credentials without the permission.
    :param no_bucket: For a bucket that does not exist.
    :param credentials: For missing credentials, or a missing endpoint.
    :param transient: For an error after which a retry may succeed.
    """

    denied: str
    no_bucket: str
    credentials: str
    transient: str


#: For readers of an Airflow task's log.
IN_AIRFLOW = Advice(
    denied="The AWS connection needs s3:PutObject, s3:GetObject and s3:AbortMultipartUpload on the "
    "destination and s3:ListBucket on the bucket; if the bucket demands encryption or an ACL, say so in "
    "upload_args.",
    no_bucket="Create it, or correct the address; then clear this task.",
    credentials="Check the AWS connection.",
    transient="A retry goes on from what is there.",
)

_CREDENTIALS = (
    "Check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or --profile, and for a "
    "store other than AWS --endpoint-url."
)

#: For readers of the page in Airflow's UI.
ON_A_PAGE = Advice(
    denied="The AWS connection of the destination needs s3:ListBucket and s3:GetObject.",
    no_bucket="Correct destination= of the DAG, or [vocalsep] destinations.",
    credentials="Check the AWS connection of the destination.",
    transient="The page tries again by itself.",
)

#: For people at a command line.
AT_A_SHELL = Advice(
    denied=_CREDENTIALS,
    no_bucket=f"Check the address. {_CREDENTIALS}",
    credentials=_CREDENTIALS,
    transient="Try again.",
)


@contextmanager
def translate_errors(verb: str, bucket: str, key: str, advice: Advice) -> Iterator[None]:
    """
    Translate the errors of boto3.

    :param verb: What the request does with the object, for the message.
    :param key: Key of the object; empty for the bucket.
    :raises DestinationError: a person has to change something.
    :raises StorageError: a later request may succeed.
    """
    uri = f"s3://{bucket}/{key}" if key else f"s3://{bucket}"
    failure = f"Could not {verb} {uri}"
    try:
        yield
    except ClientError as e:
        raise _translate(e, failure, bucket, advice) from e
    except (NoCredentialsError, ParamValidationError) as e:
        raise DestinationError(f"{failure}: {e}. {advice.credentials}") from e
    except EndpointConnectionError as e:
        hint = advice.credentials if advice is AT_A_SHELL else advice.transient
        raise StorageError(f"{failure}: {e} {hint}") from e
    except (BotoCoreError, RetriesExceededError) as e:
        raise StorageError(f"{failure}: {e}. {advice.transient}") from e


def error_code(error: ClientError) -> str:
    """Return S3's code of an error, or the HTTP status if the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _translate(error: ClientError, failure: str, bucket: str, advice: Advice) -> StorageError:
    code = error_code(error)
    message = error.response.get("Error", {}).get("Message") or code
    if code in _NOT_FOUND:
        return NotFoundError(f"{failure}: there is no such object, or no bucket {bucket!r}.")
    if code == "NoSuchBucket":
        return NoBucketError(f"{failure}: there is no bucket {bucket!r}. {advice.no_bucket}")
    if code in _DENIED:
        return AccessDeniedError(f"{failure}: the store refuses it ({code}: {message}). {advice.denied}")
    if code in _CONFLICT:
        return ConflictError(f"{failure}: another writer was first ({code}: {message}).")
    if code in _BAD_RANGE:
        return InvalidRangeError(f"{failure}: it does not have that range of bytes.")
    if code in _INVALID:
        return DestinationError(
            f"{failure}: the bucket {bucket!r} does not accept the request ({code}: {message}). Check the "
            "region of the AWS connection and upload_args."
        )
    return StorageError(f"{failure}: the store answered {code} ({message}). {advice.transient}")
