"""Build the requests to the vendor, as plain data."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_vocalsep.api.errors import TrackError
from airflow_provider_vocalsep.api.vocabulary import SeparationType

if TYPE_CHECKING:
    from airflow_provider_vocalsep.api.dialects import Dialect
    from airflow_provider_vocalsep.api.track import Track

#: Both vendors require ``callBackUrl``, even from callers that only poll. ``.invalid`` never resolves
#: (RFC 2606), so nothing about the track is delivered to anyone.
PLACEHOLDER_CALLBACK_URL = "https://callback.invalid/vocalsep"

_SUBMIT_PATH = "/api/v1/vocal-removal/generate"
_READ_PATH = "/api/v1/vocal-removal/record-info"


@dataclass(frozen=True)
class ApiRequest:
    """
    One call to the vendor's API.

    :param path: Path below the vendor's base URL.
    :param params: Query parameters.
    :param json: Body.
    """

    method: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    json: dict[str, Any] | None = None


def submit_request(
    track: Track, separation_type: SeparationType, *, stem_name: str | None, callback_url: str
) -> ApiRequest:
    """
    Build the submit of a track (``POST /api/v1/vocal-removal/generate``).

    :param track: The track; an own file needs an ``http(s)`` URL.
    :param stem_name: For ``split_stem_advanced`` only.
    :param callback_url: Where the vendor reports the end of the task.
    :raises TrackError: naming the track and the value that cannot be submitted.
    """
    check_stem_name(track.key, separation_type, stem_name)
    body: dict[str, Any]
    if track.audio_url is None:
        body = {"taskId": track.task_id, "audioId": track.audio_id}
    else:
        if urlsplit(track.audio_url).scheme not in ("http", "https"):
            raise TrackError(
                f"Track {track.key!r}: the vendor cannot fetch {track.audio_url!r}. "
                "Give an https:// address; the operators presign s3:// ones."
            )
        body = {"audioUrl": track.audio_url}
    body |= {"type": separation_type.value, "callBackUrl": callback_url}
    if stem_name is not None:
        body["stemName"] = stem_name.strip()
    return ApiRequest("POST", _SUBMIT_PATH, json=body)


def read_request(vendor_task_id: str) -> ApiRequest:
    """
    Build the read of a task's record (``GET /api/v1/vocal-removal/record-info``).

    :param vendor_task_id: The id that the submit returned, not that of the music task.
    """
    return ApiRequest("GET", _READ_PATH, params={"taskId": vendor_task_id})


def credits_request(dialect: Dialect) -> ApiRequest:
    """Build the read of the balance; its path depends on the dialect."""
    return ApiRequest("GET", dialect.credit_path)


def parse_separation_type(value: SeparationType | str) -> SeparationType:
    """
    Parse a separation type or its name.

    :raises TrackError: listing the known types.
    """
    try:
        return SeparationType(value)
    except ValueError:
        known = ", ".join(t.value for t in SeparationType)
        raise TrackError(f"Unknown separation type {value!r}; write one of: {known}.") from None


def check_stem_name(track_key: str, separation_type: SeparationType, stem_name: str | None) -> None:
    """
    Check that a stem name is given for ``split_stem_advanced``, and only there.

    :param track_key: Key of the track, for the message.
    :raises TrackError: naming the track.
    """
    if separation_type is SeparationType.SPLIT_STEM_ADVANCED:
        if not (stem_name and stem_name.strip()):
            raise TrackError(
                f"Track {track_key!r}: split_stem_advanced needs a stem_name, for example 'Lead Vocal'."
            )
    elif stem_name is not None:
        raise TrackError(
            f"Track {track_key!r}: stem_name {stem_name!r} goes with split_stem_advanced only, not with "
            f"{separation_type}."
        )


def slug_of(stem_name: str) -> str:
    """
    Turn a stem name into part of an object key: ``Lead Vocal`` becomes ``lead_vocal``.

    A name without a Latin letter or digit becomes a digest, so that two such names stay distinct.
    """
    ascii_only = unicodedata.normalize("NFKD", stem_name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "_", ascii_only.lower()).strip("_")
    if slug or not stem_name.strip():
        return slug or "stem"
    return f"stem_{hashlib.sha256(stem_name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
