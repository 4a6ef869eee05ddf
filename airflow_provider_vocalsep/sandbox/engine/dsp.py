"""
Approximate separation by signal processing.

``DspEngine`` replaces the network if its weights are missing. ``divide`` splits an accompaniment for
``split_stem``: percussive parts are drums (median filtering, Fitzgerald 2010), low frequencies are bass, and
the rest is guitar or keyboard by its position in the stereo image. All other stems are empty, as they often
are with the vendor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.sandbox.engine.audio import Audio

_FRAME, _HOP, _RATE = 4096, 1024, 44_100
#: Frequencies of singing in hertz.
_VOICE_BAND = (120.0, 8000.0)
#: Highest frequency of a band's bass in hertz.
_BASS_BELOW = 180.0
_EPSILON = 1e-8
#: Frames of a median: about 0.4 s in time, 180 Hz in frequency.
_MEDIAN = 17
#: Samples of a piece, about 30 s, so that long songs need bounded memory, and of the context on either side
#: of it. The context of one second is longer than a median and a frame, so that pieces join without seams.
_PIECE, _CONTEXT = 1290 * _HOP, 43 * _HOP


class DspEngine:
    """Takes as vocals what is in the middle of the stereo image, tonal, and in the frequencies of singing."""

    name = "dsp"

    def vocals(self, mix: Audio) -> Audio:
        """
        Return the vocals of a mix, with the same shape.

        :param mix: Samples × 2, 44.1 kHz.
        """
        return _process_in_pieces(self._separate_piece, mix)["vocals"]

    def _separate_piece(self, mix: Audio) -> dict[str, Audio]:
        left, right = _spectra(mix)
        middle = np.abs(left + right) / 2
        side = np.abs(left - right) / 2
        harmonic, percussive = _filter_medians(middle)
        mask = middle**2 / (middle**2 + 4 * side**2 + _EPSILON)
        mask *= harmonic**2 / (harmonic**2 + percussive**2 + _EPSILON)
        mask *= _band(*_VOICE_BAND)[:, None]
        return {"vocals": _to_samples([left * mask, right * mask], len(mix))}


def divide(accompaniment: Audio) -> dict[str, Audio]:
    """
    Split an accompaniment into ``drums``, ``bass``, ``guitar`` and ``keyboard``, whose sum it is.

    :param accompaniment: Samples × 2, 44.1 kHz.
    """
    return _process_in_pieces(_divide_piece, accompaniment)


def _divide_piece(accompaniment: Audio) -> dict[str, Audio]:
    left, right = _spectra(accompaniment)
    level = np.abs(left) + np.abs(right)
    harmonic, percussive = _filter_medians(level)
    drums = percussive**2 / (harmonic**2 + percussive**2 + _EPSILON)
    bass = (1 - drums) * _band(0, _BASS_BELOW)[:, None]
    rest = 1 - drums - bass
    rightness = np.abs(right) ** 2 / (np.abs(left) ** 2 + np.abs(right) ** 2 + _EPSILON)
    masks = {"drums": drums, "bass": bass, "guitar": rest * rightness, "keyboard": rest * (1 - rightness)}
    return {
        name: _to_samples([left * mask, right * mask], len(accompaniment)) for name, mask in masks.items()
    }


def _filter_medians(magnitude: Any) -> tuple[Any, Any]:
    """Return the medians along time (harmonic parts) and along frequency (percussive parts)."""
    return _filter_rows(magnitude), _filter_rows(magnitude.T).T


def _filter_rows(rows: Any) -> Any:
    """Return the medians along each row. One long row takes SciPy a sixth of the time of a table."""
    from scipy.ndimage import median_filter

    half = _MEDIAN // 2
    padded = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    return median_filter(padded.ravel(), size=_MEDIAN).reshape(padded.shape)[:, half:-half]


def _process_in_pieces(process: Callable[[Audio], dict[str, Audio]], samples: Audio) -> dict[str, Audio]:
    done: dict[str, list[Audio]] = {}
    for start in range(0, len(samples), _PIECE):
        first = max(0, start - _CONTEXT)
        for name, part in process(samples[first : start + _PIECE + _CONTEXT]).items():
            done.setdefault(name, []).append(part[start - first : start - first + _PIECE])
    return {name: np.concatenate(parts) for name, parts in done.items()}


def _spectra(samples: Audio) -> tuple[Any, Any]:
    from scipy.signal import stft

    left, right = (
        stft(samples[:, channel], _RATE, nperseg=_FRAME, noverlap=_FRAME - _HOP)[2] for channel in (0, 1)
    )
    return left, right


def _to_samples(spectra: list[Any], samples: int) -> Audio:
    from scipy.signal import istft

    channels = [istft(s, _RATE, nperseg=_FRAME, noverlap=_FRAME - _HOP)[1][:samples] for s in spectra]
    out = np.zeros((samples, 2), "f4")
    for number, channel in enumerate(channels):
        out[: len(channel), number] = channel
    return out


def _band(low: float, high: float) -> Any:
    frequencies = np.fft.rfftfreq(_FRAME, 1 / _RATE)
    return ((frequencies >= low) & (frequencies <= high)).astype("f4")
