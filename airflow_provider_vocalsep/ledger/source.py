"""The name of a track's audio: what is paid for once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_vocalsep.api.track import Track

#: How services sign URLs: the parameters that a signed URL has, and all that only sign it. Names in lower
#: case, from each service's page on signed URLs; a name that ends in ``*`` is a prefix.
_SIGNATURES: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    # Amazon S3, Signature Version 4, and Version 2.
    (frozenset({"x-amz-signature"}), frozenset({"x-amz-*"})),
    (
        frozenset({"awsaccesskeyid", "signature"}),
        frozenset({"awsaccesskeyid", "signature", "expires", "x-amz-*"}),
    ),
    # Google Cloud Storage, Version 4, and Version 2.
    (frozenset({"x-goog-signature"}), frozenset({"x-goog-*"})),
    (frozenset({"googleaccessid", "signature"}), frozenset({"googleaccessid", "signature", "expires"})),
    # CloudFront, with a canned and with a custom policy.
    (
        frozenset({"key-pair-id", "signature"}),
        frozenset({"key-pair-id", "signature", "expires", "policy", "hash-algorithm"}),
    ),
    # Azure Storage, shared access signatures: service, account and user delegation.
    (
        frozenset({"sig", "sv"}),
        frozenset(
            "sig sv ss srt sp st se spr sip sr si ses sdd "
            "skoid sktid skt ske sks skv skdutid sduoid saoid suoid scid".split()
        ),
    ),
)


def source_of(track: Track) -> str:
    """Return a name of the track's audio that stays the same for a newly signed URL of the same file."""
    if track.audio_url is None:
        return f"{track.task_id}/{track.audio_id}"
    parts = urlsplit(track.audio_url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    signing = _signing_names(name for name, _ in query)
    kept = [(name, value) for name, value in query if not _is_among(name, signing)]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(kept), ""))


def _signing_names(names: Iterable[str]) -> frozenset[str]:
    """Return the names of the parameters that sign a URL, by those that it has."""
    present = {name.lower() for name in names}
    return next((signing for required, signing in _SIGNATURES if required <= present), frozenset())


def _is_among(name: str, signing: frozenset[str]) -> bool:
    name = name.lower()
    return name in signing or any(name.startswith(s[:-1]) for s in signing if s.endswith("*"))
