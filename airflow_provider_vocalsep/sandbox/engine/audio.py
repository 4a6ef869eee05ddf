"""Decodes any audio to 44.1 kHz stereo, and encodes MP3."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np
import soundfile

#: Samples per second of all audio inside the sandbox.
RATE = 44_100

Audio = np.ndarray[Any, np.dtype[np.float32]]


class NotAudioError(ValueError):
    """The bytes are not audio that can be decoded."""


def decode(data: bytes) -> Audio:
    """
    Decode an audio file (WAV, FLAC, MP3, Ogg Vorbis, Opus).

    :return: Samples × 2, 44.1 kHz, between -1 and 1.
    :raises NotAudioError: libsndfile cannot decode it, or it has no samples.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as e:
        raise NotAudioError(str(e)) from e
    if not len(samples):
        raise NotAudioError("It has no samples.")
    if rate != RATE:
        from scipy.signal import resample_poly

        ratio = Fraction(RATE, rate)
        samples = resample_poly(samples, ratio.numerator, ratio.denominator, axis=0).astype("f4")
    return np.ascontiguousarray(samples[:, :2] if samples.shape[1] >= 2 else np.repeat(samples, 2, axis=1))


def encode_mp3(samples: Audio) -> bytes:
    """
    Encode as MP3, the format of the vendor's stems.

    :param samples: Samples × 2, 44.1 kHz.
    """
    out = io.BytesIO()
    soundfile.write(out, np.clip(samples, -1, 1), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return out.getvalue()


def loudness(samples: Audio) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype="f8")))) if samples.size else 0.0
