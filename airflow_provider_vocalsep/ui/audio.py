"""Stems through the API server: streamed from the bucket, in the ranges that players ask for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError
from starlette.responses import Response, StreamingResponse

from airflow_provider_vocalsep.ui.documents import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_s3 import S3Client

    from airflow_provider_vocalsep.landing.manifest import LandedStem
    from airflow_provider_vocalsep.runs.listing import Destination

#: One range; what is anything else is ignored, as RFC 9110 (14.2) wants it.
_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")

_PIECE = 256 * 1024


def stream_stem(
    client: S3Client,
    place: Destination,
    stem: LandedStem,
    headers: Mapping[str, str],
    *,
    file_name: str | None = None,
    body: bool = True,
) -> Response:
    """
    Answer with a stem.

    :param client: The boto3 client.
    :param place: Where it must lie.
    :param stem: The stem, of a manifest.
    :param headers: Those of the request.
    :param file_name: Offer it to be saved under this name.
    :param body: Whether to send it, or what is known of it only.
    :raises UnreadableError: it is elsewhere, or not there, or the bucket is away.
    """
    key = place.key_of(stem.uri)
    if key is None:
        raise UnreadableError(f"{stem.uri} lies outside of {place.uri}, so it is not opened.")
    wanted = headers.get("range", "")
    arguments: dict[str, Any] = {"Range": wanted} if _RANGE.fullmatch(wanted) else {}
    if arguments and "if-range" in headers:
        arguments["IfMatch"] = headers["if-range"]
    answer = _get(client, {"Bucket": place.bucket, "Key": key}, arguments)
    if isinstance(answer, Response):
        return answer
    told = {
        "accept-ranges": "bytes",
        "content-length": str(answer["ContentLength"]),
        "etag": answer["ETag"],
        "cache-control": "private, no-cache",
        # Airflow compresses what does not say how it is encoded, and what is compressed has no ranges.
        "content-encoding": "identity",
    }
    if "ContentRange" in answer:
        told["content-range"] = answer["ContentRange"]
    if file_name:
        told["content-disposition"] = f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"
    kind = stem.content_type if re.fullmatch(r"audio/[a-z0-9.+-]+", stem.content_type) else None
    status = 206 if "ContentRange" in answer else 200
    media_type = kind or "application/octet-stream"
    if not body:
        answer["Body"].close()
        return Response(None, status, told, media_type)
    return StreamingResponse(_pieces(answer["Body"]), status, told, media_type)


def _get(client: S3Client, where: dict[str, Any], arguments: dict[str, Any]) -> Any:
    try:
        return client.get_object(**where, **arguments)
    except ClientError as e:
        code = str(e.response.get("Error", {}).get("Code", "?"))
        if code in ("PreconditionFailed", "412"):
            return _get(client, where, {})
        if code in ("InvalidRange", "416", "RequestedRangeNotSatisfiable"):
            return Response(None, 416, {"content-range": "bytes */*", "accept-ranges": "bytes"})
        gone = code in ("NoSuchKey", "404", "NotFound")
        raise UnreadableError(
            f"s3://{where['Bucket']}/{where['Key']} "
            + ("is not there any more." if gone else f"could not be read ({code}).")
        ) from e
    except BotoCoreError as e:
        raise UnreadableError(f"The object storage did not answer ({type(e).__name__}).") from e


def _pieces(body: Any) -> Iterator[bytes]:
    try:
        yield from body.iter_chunks(_PIECE)
    finally:
        body.close()
