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
    from airflow_provider_vocalsep.sandbox.engine.audio import Audio

_FRAME, _HOP, _RATE = 4096, 1024, 44_100
#: Hertz between which singing lies.
_VOICE_BAND = (120.0, 8000.0)
#: Hertz below which a band's bass lies.
_BASS_BELOW = 180.0
_EPSILON = 1e-8


class DspEngine:
    """Takes for vocals what stands in the middle of the stereo image, is tonal, and lies where voices do."""

    name = "dsp-1"

    def vocals(self, mix: Audio) -> Audio:
        """
        Separate the vocals.

        :param mix: Samples × 2, 44.1 kHz.
        :return: The vocals, of the same shape.
        """
        left, right = _spectra(mix)
        middle = np.abs(left + right) / 2
        side = np.abs(left - right) / 2
        harmonic, percussive = _median_filtered(middle)
        mask = middle**2 / (middle**2 + 4 * side**2 + _EPSILON)
        mask *= harmonic**2 / (harmonic**2 + percussive**2 + _EPSILON)
        mask *= _band(*_VOICE_BAND)[:, None]
        return _sound([left * mask, right * mask], len(mix))


def divide(accompaniment: Audio) -> dict[str, Audio]:
    """
    Divide an accompaniment.

    :param accompaniment: Samples × 2, 44.1 kHz.
    :return: ``drums``, ``bass``, ``guitar`` and ``keyboard``; together they are the accompaniment.
    """
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
    from scipy.ndimage import median_filter

    return median_filter(magnitude, size=(1, 17)), median_filter(magnitude, size=(17, 1))


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
