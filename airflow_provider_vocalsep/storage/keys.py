"""A safe and distinct object key for whatever a user calls a track."""

from __future__ import annotations

import hashlib
import re
import unicodedata

#: A segment that is used as it is. The characters are those that S3's user guide calls safe ("Creating object key names");
#: the first one keeps dot files and our own folder apart.
_SAFE_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9!_.*'()-]{0,119}", re.ASCII)

#: Marks a rewritten segment. Never part of one that is used as it is, so the two cannot meet.
_REWRITTEN = "~"

#: Hex digits of SHA-256 that keep rewritten segments apart: 64 bits, so that among 100,000 tracks whose names hold nothing
#: readable the chance that any two meet is below 1e-9 (with 40 bits it would be 1 in 200).
_DIGEST_LENGTH = 16

#: How much of a rewritten name stays readable.
_SLUG_LENGTH = 60

#: A whole key may have 1024 bytes (S3); prefix, separation and stem need their share of them.
_MAX_KEY_LENGTH = 600


def safe_key(track_key: str) -> str:
    """
    Turn a user's name of a track into part of an object key; different names never meet.

    ``/`` keeps its meaning. A safe segment stays as it is; any other becomes its readable characters, a ``~`` and part of its
    SHA-256.

    :param track_key: Any text.
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
