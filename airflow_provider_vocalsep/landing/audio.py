"""Format and duration of a file, from its first bytes."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinytag import TinyTag

from airflow_provider_vocalsep.landing.errors import NotAudioError

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: A smaller file holds no sound: 1000 bytes of MP3 at 128 kbit/s are 0.06 s. Vendors link such files for
#: stems that a track does not have, and public client libraries drop files below this size.
MIN_BYTES = 1000

#: Brands of ISO media files (``ftyp``) that are pictures. These and the signatures below are from Wikipedia's
#: "List of file signatures".
_IMAGE_BRANDS = (b"heic", b"heix", b"mif1", b"avif")

_OTHER_SIGNATURES = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"FORM", "an AIFF file"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM file"),
)

#: Bytes of an ID3v1 tag at the end of an MP3 file (ID3v1 specification).
_ID3V1_BYTES = 128


@dataclass(frozen=True)
class AudioFacts:
    """
    Format and duration of an audio file.

    :param format: ``mp3``, ``m4a``, ``wav``, ``flac`` or ``ogg``.
    :param content_type: Its media type.
    :param duration_seconds: Its duration; ``None`` if the inspected bytes do not reveal it.
    """

    format: str
    content_type: str
    duration_seconds: float | None

    @property
    def extension(self) -> str:
        """File extension, without a dot."""
        return self.format


_CONTENT_TYPES = {
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
}

#: The formats of stems.
AUDIO_EXTENSIONS = tuple(_CONTENT_TYPES)


def inspect_audio(head: bytes | memoryview, size: int | None = None) -> AudioFacts:
    """
    Return format and duration of a file from its first bytes.

    The first kilobytes suffice for most formats; MP3 of variable bit rate without a header needs half a
    minute (1.2 MB at 320 kbit/s). The duration is ``None`` if it is in the missing bytes (Ogg, and M4A with
    its index at the end).

    :param head: The whole file, or its first megabytes.
    :param size: Length of the whole file, if known; that of ``head`` by default.
    :raises NotAudioError: naming the type that the file seems to have.
    """
    window = _Window(head, len(head) if size is None else size)
    start = bytes(head[:1024])
    kind = _detect_format(start)
    if kind is None:
        raise NotAudioError(f"it is not audio but {_describe(start)}")
    try:
        tag = TinyTag.get(file_obj=window, tags=False)  # type: ignore[arg-type]
        seconds = tag.duration
    except Exception as e:  # a parser may raise anything on untrusted bytes
        if not window.overrun:
            raise NotAudioError(f"it begins like {kind.upper()} but is malformed ({e})") from e
        seconds = None
    if seconds is None and not window.overrun:
        raise NotAudioError(f"it begins like {kind.upper()} but holds no sound")
    duration = round(seconds, 3) if seconds and not window.overrun else None
    return AudioFacts(kind, _CONTENT_TYPES[kind], duration)


def is_text(head: bytes | memoryview) -> bool:
    """Return whether bytes are readable text, such as an error message."""
    text = bytes(head[:1024]).decode("utf-8", "replace").strip()
    # The last character may be incomplete.
    return bool(text) and text.count("\ufffd") <= 1 and all(c.isprintable() or c.isspace() for c in text)


def _detect_format(start: bytes) -> str | None:
    if start.startswith(b"ID3") or _is_mpeg_frame(start):
        return "mp3"
    if start[4:8] == b"ftyp" and start[8:12] not in _IMAGE_BRANDS:
        return "m4a"
    if start.startswith(b"RIFF") and start[8:12] == b"WAVE":
        return "wav"
    if start.startswith(b"fLaC"):
        return "flac"
    if start.startswith(b"OggS"):
        return "ogg"
    return None


def _is_mpeg_frame(start: bytes) -> bool:
    """Return whether bytes are a header of MPEG layer II or III with a valid bit rate and sample rate."""
    if len(start) < 4 or start[0] != 0xFF or start[1] & 0xE0 != 0xE0:
        return False
    version, layer = start[1] >> 3 & 3, start[1] >> 1 & 3
    return version != 1 and layer in (1, 2) and start[2] >> 4 not in (0, 15) and start[2] >> 2 & 3 != 3


def _describe(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if text.startswith(b"<"):
        return "an XML document"
    if text.startswith((b"{", b"[")):
        return f"JSON: {_quote(text)}"
    for signature, name in _OTHER_SIGNATURES:
        if start.startswith(signature):
            return name
    if is_text(start):
        return f"text: {_quote(start)}"
    return f"unknown data (it begins with {start[:8].hex(' ')})"


def _quote(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))


class _Window(io.RawIOBase):
    """
    A file of which only the first bytes are available.

    A read past them returns nothing and sets ``overrun``: then the parser's answer is a guess.
    """

    def __init__(self, head: bytes | memoryview, size: int) -> None:
        self._head = head
        self._size = max(size, len(head))
        self._position = 0
        self.overrun = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("seek before the start of the file")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        wanted = self._position < end > len(self._head)
        # A read of the ID3v1 tag at the end does not count: the tag holds no duration.
        if wanted and self._position != self._size - _ID3V1_BYTES:
            self.overrun = True
        piece = bytes(self._head[self._position : max(end, self._position)])
        self._position += len(piece)
        return piece

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)
