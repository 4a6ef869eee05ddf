"""Safe and distinct object keys for any name that a user gives a track."""

from __future__ import annotations

import hashlib
import re
import unicodedata

#: A segment that is used unchanged. The characters are those that S3's user guide calls safe ("Creating
#: object key names"); the first one excludes dot files and our own folder.
_SAFE_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9!_.*'()-]{0,119}", re.ASCII)

#: Marks a rewritten segment. Not a safe character, so that a rewritten segment never equals an unchanged one.
_REWRITTEN = "~"

#: Hex digits of SHA-256 in a rewritten segment: 64 bits, so that among 100,000 tracks without any readable
#: character in their names the chance of one collision is below 1e-9 (with 40 bits it would be 1 in 200).
_DIGEST_LENGTH = 16

#: Readable characters that a rewritten segment keeps, at most.
_SLUG_LENGTH = 60

#: S3 allows a key of 1024 bytes; the rest is for prefix, separation type and stem.
_MAX_KEY_LENGTH = 600


def safe_key(track_key: str) -> str:
    """
    Turn a user's name of a track into part of an object key. Different names give different keys.

    ``/`` separates segments. A safe segment stays unchanged; any other becomes its readable characters, a
    ``~`` and part of its SHA-256.
    """
    key = "/".join(safe_segment(segment) for segment in track_key.split("/"))
    return key if len(key) <= _MAX_KEY_LENGTH else _rewrite(track_key)


def safe_segment(segment: str) -> str:
    """Turn a text into one segment of an object key, see :func:`safe_key`."""
    return segment if _SAFE_SEGMENT.fullmatch(segment) else _rewrite(segment)


def _rewrite(segment: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", _ascii(segment)).strip("-.")[:_SLUG_LENGTH]
    # A lone surrogate (from a badly decoded file name) has no UTF-8 form of its own.
    digest = hashlib.sha256(segment.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{readable}{_REWRITTEN}{digest[:_DIGEST_LENGTH]}"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
