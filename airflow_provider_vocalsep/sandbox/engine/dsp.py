"""
Separation by plain signal processing: approximate, and said to be.

``vocals`` here serves when the network's weights are missing. ``divide`` takes an accompaniment further apart for
``split_stem``: drums are what is percussive (median filtering, Fitzgerald 2010), bass is what lies low, and the rest
goes to guitar and keyboard by where it stands in the stereo image. Nothing else is found, as with the vendor, whose
twelve stems are often empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.sandbox.engine.audio import Audio

_FRAME, _HOP, _RATE = 4096, 1024, 44_100
#: Hertz between which singing lies.
_VOICE_BAND = (120.0, 8000.0)
#: Hertz below which a band's bass lies.
_BASS_BELOW = 180.0
_EPSILON = 1e-8
#: Frames of a median: about 0.4 s in time, 180 Hz in frequency.
_MEDIAN = 17
#: Long songs are worked on in pieces of about 30 s, so that memory stays bounded. Each piece sees a second more on
#: either side than it answers for, which is more than a median and a frame reach: the seams cannot be told.
_PIECE, _CONTEXT = 1290 * _HOP, 43 * _HOP


class DspEngine:
    """Takes for vocals what stands in the middle of the stereo image, is tonal, and lies where voices do."""

    name = "dsp"

    def vocals(self, mix: Audio) -> Audio:
        """
        Separate the vocals.

        :param mix: Samples × 2, 44.1 kHz.
        :return: The vocals, of the same shape.
        """
        return _in_pieces(self._vocals_of_piece, mix)["vocals"]

    def _vocals_of_piece(self, mix: Audio) -> dict[str, Audio]:
        left, right = _spectra(mix)
        middle = np.abs(left + right) / 2
        side = np.abs(left - right) / 2
        harmonic, percussive = _median_filtered(middle)
        mask = middle**2 / (middle**2 + 4 * side**2 + _EPSILON)
        mask *= harmonic**2 / (harmonic**2 + percussive**2 + _EPSILON)
        mask *= _band(*_VOICE_BAND)[:, None]
        return {"vocals": _sound([left * mask, right * mask], len(mix))}


def divide(accompaniment: Audio) -> dict[str, Audio]:
    """
    Divide an accompaniment.

    :param accompaniment: Samples × 2, 44.1 kHz.
    :return: ``drums``, ``bass``, ``guitar`` and ``keyboard``; together they are the accompaniment.
    """
    return _in_pieces(_divide_piece, accompaniment)


def _divide_piece(accompaniment: Audio) -> dict[str, Audio]:
    left, right = _spectra(accompaniment)
    level = np.abs(left) + np.abs(right)
    harmonic, percussive = _median_filtered(level)
    drums = percussive**2 / (harmonic**2 + percussive**2 + _EPSILON)
    bass = (1 - drums) * _band(0, _BASS_BELOW)[:, None]
    rest = 1 - drums - bass
    rightness = np.abs(right) ** 2 / (np.abs(left) ** 2 + np.abs(right) ** 2 + _EPSILON)
    masks = {"drums": drums, "bass": bass, "guitar": rest * rightness, "keyboard": rest * (1 - rightness)}
    return {name: _sound([left * mask, right * mask], len(accompaniment)) for name, mask in masks.items()}


def _median_filtered(magnitude: Any) -> tuple[Any, Any]:
    """Return what goes on in time (harmonic) and what spreads over frequency (percussive)."""
    return _median_along_rows(magnitude), _median_along_rows(magnitude.T).T


def _median_along_rows(rows: Any) -> Any:
    """Filter the rows as one long line: SciPy does that six times as fast as a table."""
    from scipy.ndimage import median_filter

    half = _MEDIAN // 2
    padded = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    return median_filter(padded.ravel(), size=_MEDIAN).reshape(padded.shape)[:, half:-half]


def _in_pieces(work: Callable[[Audio], dict[str, Audio]], samples: Audio) -> dict[str, Audio]:
    done: dict[str, list[Audio]] = {}
    for start in range(0, len(samples), _PIECE):
        first = max(0, start - _CONTEXT)
        for name, part in work(samples[first : start + _PIECE + _CONTEXT]).items():
            done.setdefault(name, []).append(part[start - first : start - first + _PIECE])
    return {name: np.concatenate(parts) for name, parts in done.items()}


def _spectra(samples: Audio) -> tuple[Any, Any]:
    from scipy.signal import stft

    left, right = (
        stft(samples[:, channel], _RATE, nperseg=_FRAME, noverlap=_FRAME - _HOP)[2] for channel in (0, 1)
    )
    return left, right


def _sound(spectra: list[Any], samples: int) -> Audio:
    from scipy.signal import istft

    channels = [istft(s, _RATE, nperseg=_FRAME, noverlap=_FRAME - _HOP)[1][:samples] for s in spectra]
    out = np.zeros((samples, 2), "f4")
    for number, channel in enumerate(channels):
        out[: len(channel), number] = channel
    return out


def _band(low: float, high: float) -> Any:
    frequencies = np.fft.rfftfreq(_FRAME, 1 / _RATE)
    return ((frequencies >= low) & (frequencies <= high)).astype("f4")
