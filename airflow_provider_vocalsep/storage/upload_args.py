"""The arguments that a user may add to every upload: encryption, storage class, tags, ACL, metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import S3Transfer
from botocore.validate import ParamValidator

from airflow_provider_vocalsep.storage.errors import DestinationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

#: Arguments that landing sets, or that every later read would need as well.
_RESERVED = frozenset(
    {"ChecksumAlgorithm", "ContentType", "ContentEncoding", "RequestPayer"}
    | {name for name in S3Transfer.ALLOWED_UPLOAD_ARGS if name.startswith(("SSECustomer", "Checksum"))}
)

#: All other arguments of an upload in boto3.
UPLOAD_ARGS = frozenset(S3Transfer.ALLOWED_UPLOAD_ARGS) - _RESERVED

#: Metadata that landing writes and later trusts.
METADATA_PREFIXES = ("sha256", "vocalsep-")


def check_upload_args(client: S3Client, upload_args: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check the ``upload_args`` of a user and return them.

    :raises DestinationError: naming the arguments that are unknown or malformed, and the known ones.
    """
    args = dict(upload_args)
    unknown = sorted(set(args) - UPLOAD_ARGS)
    if unknown:
        raise DestinationError(
            f"upload_args: {', '.join(map(repr, unknown))} cannot be passed. "
            f"Known arguments: {', '.join(sorted(UPLOAD_ARGS))}."
        )
    shape = client.meta.service_model.operation_model("PutObject").input_shape
    assert shape is not None  # noqa: S101 - PutObject has arguments
    report = ParamValidator().validate({"Bucket": "b", "Key": "k", **args}, shape)
    if report.has_errors():
        raise DestinationError(f"upload_args: {report.generate_report()}.")
    taken = [name for name in args.get("Metadata", {}) if name.lower().startswith(METADATA_PREFIXES)]
    if taken:
        raise DestinationError(
            f"upload_args: the Metadata names {', '.join(taken)} are reserved for landing."
        )
    return args
