from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, strategies as st

from airflow_provider_vocalsep.landing.audio import AudioFacts, inspect_audio
from airflow_provider_vocalsep.landing.errors import NotAudioError
from tests.support.stem_host import mp3


def tone(kind: str, subtype: str, seconds: float = 3.0) -> bytes:
    numpy = pytest.importorskip("numpy")
    soundfile = pytest.importorskip("soundfile")
    samples = numpy.sin(numpy.arange(int(seconds * 44100)) * 0.05) * 0.3
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 44100, format=kind, subtype=subtype)
    return buffer.getvalue()


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def m4a(seconds: float, *, index_first: bool = True) -> bytes:
    header = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, int(seconds * 1000)) + bytes(80))
    index, sound = box(b"moov", header), box(b"mdat", bytes(5000))
    return box(b"ftyp", b"M4A \0\0\0\0M4A mp42") + (index + sound if index_first else sound + index)


def id3(size: int) -> bytes:
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + digits + bytes(size)


class TestInspectAudio:
    @pytest.mark.parametrize(
        "kind, subtype, extension, content_type",
        [
            ("MP3", "MPEG_LAYER_III", "mp3", "audio/mpeg"),
            ("WAV", "PCM_16", "wav", "audio/wav"),
            ("FLAC", "PCM_16", "flac", "audio/flac"),
            ("OGG", "VORBIS", "ogg", "audio/ogg"),
        ],
    )
    def test_format_and_duration_are_recognised(
        self, kind: str, subtype: str, extension: str, content_type: str
    ) -> None:
        facts = inspect_audio(tone(kind, subtype))

        assert (facts.extension, facts.content_type) == (extension, content_type)
        assert facts.duration_seconds == pytest.approx(3.0, abs=0.1)

    @pytest.mark.parametrize("index_first", [True, False])
    def test_m4a_may_have_its_index_at_either_end(self, index_first: bool) -> None:
        assert inspect_audio(m4a(12.5, index_first=index_first)) == AudioFacts("m4a", "audio/mp4", 12.5)

    def test_mp3_may_begin_with_a_large_cover(self) -> None:
        facts = inspect_audio(id3(300_000) + mp3(10.0))

        assert facts.format == "mp3"
        assert facts.duration_seconds == pytest.approx(10.0, abs=0.1)

    def test_memory_view_is_inspected_like_bytes(self) -> None:
        sound = mp3(5.0)

        assert inspect_audio(memoryview(sound)) == inspect_audio(sound)


class TestInspectAudioOfAHead:
    @pytest.mark.parametrize(
        "kind, subtype", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")]
    )
    def test_duration_of_the_whole_file_is_known_from_its_head(self, kind: str, subtype: str) -> None:
        sound = tone(kind, subtype, 20.0)

        facts = inspect_audio(sound[:60_000], len(sound))

        assert facts.duration_seconds == pytest.approx(20.0, abs=0.1)

    @pytest.mark.parametrize(
        "sound",
        [m4a(12.5, index_first=False), id3(4000) + mp3(10.0), tone("OGG", "VORBIS", 20.0)],
        ids=["m4a with its index at the end", "mp3 behind a cover", "ogg"],
    )
    def test_duration_in_the_missing_bytes_is_not_guessed(self, sound: bytes) -> None:
        assert inspect_audio(sound[:4000], len(sound)).duration_seconds is None


class TestInspectAudioOfOtherFiles:
    @pytest.mark.parametrize(
        "body, description",
        [
            (b"<!DOCTYPE html><html><body>gone</body></html>", "an HTML page"),
            (b"  \r\n<HTML>", "an HTML page"),
            (b"\xef\xbb\xbf<html>", "an HTML page"),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
            (b'{"code": 404, "msg": "not found"}', r"JSON: .*not found"),
            (b"File not found", "text: .*File not found"),
            (b"\x89PNG\r\n\x1a\n" + bytes(2000), "a PNG image"),
            (b"\xff\xd8\xff\xe0" + bytes(2000), "a JPEG image"),
            (b"PK\x03\x04" + bytes(2000), "a ZIP archive"),
            (b"\x1f\x8b\x08" + bytes(2000), "gzip"),
            (b"\x00\x00\x00\x18ftypheic" + bytes(2000), "unknown data"),
            (b"\xff\xfe<\x00h\x00t\x00m\x00l\x00", "unknown data"),
            (bytes(5000), "unknown data"),
            (b"\xff" * 5000, "unknown data"),
            (b"", "unknown data"),
        ],
    )
    def test_error_names_the_likely_type(self, body: bytes, description: str) -> None:
        with pytest.raises(NotAudioError, match=description):
            inspect_audio(body)

    @pytest.mark.parametrize(
        "body",
        [b"ID3\x04\0\0\0\0\0\0" + bytes(5000), b"fLaC" + bytes(3), b"RIFF\0\0\0\0WAVEfmt ", m4a(3)[:40]],
        ids=["mp3", "flac", "wav", "m4a"],
    )
    def test_malformed_file_that_begins_like_audio_is_an_error(self, body: bytes) -> None:
        with pytest.raises(NotAudioError, match="begins like"):
            inspect_audio(body)

    @given(
        st.binary(max_size=3000),
        st.sampled_from([b"", b"ID3", b"OggS\0", b"fLaC", b"\xff\xfb\x90\x64", b"RIFF"]),
    )
    def test_random_bytes_raise_no_other_error(self, body: bytes, start: bytes) -> None:
        try:
            facts = inspect_audio(start + body)
        except NotAudioError:
            return

        assert facts.extension in ("mp3", "m4a", "wav", "flac", "ogg")
