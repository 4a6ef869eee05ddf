"""From a mix to the vendor's stems, with results kept by content."""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import TYPE_CHECKING, Protocol

from airflow_provider_vocalsep.api.vocabulary import SeparationType, Stem
from airflow_provider_vocalsep.sandbox.engine.audio import RATE, decode, encode_mp3, loudness
from airflow_provider_vocalsep.sandbox.engine.dsp import DspEngine, divide
from airflow_provider_vocalsep.sandbox.engine.spleeter import (
    INSTALL_HINT,
    SpleeterEngine,
    WeightsMissingError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_vocalsep.sandbox.engine.audio import Audio

log = logging.getLogger(__name__)

#: Below this root mean square (-60 dB) a stem counts as not there.
_SILENCE = 1e-3

#: Seconds of the stems that stand in for separation when the sandbox is loaded with thousands of tracks.
_TINY_SECONDS = 0.3


class Engine(Protocol):
    """What separates."""

    name: str

    def vocals(self, mix: Audio) -> Audio:
        """Return the vocals of a mix."""


def load_engine(kind: str) -> Engine:
    """
    Load an engine.

    :param kind: ``spleeter``, ``dsp``, or ``auto`` for the first if its weights are there.
    :raises WeightsMissingError: ``spleeter`` was asked for and has no weights.
    """
    if kind == "dsp":
        return DspEngine()
    try:
        return SpleeterEngine()
    except (WeightsMissingError, ImportError) as e:
        if kind == "spleeter":
            raise
        log.warning(
            "Separating with plain signal processing, which is rough. For the real network: %s (%s)",
            INSTALL_HINT,
            e,
        )
        return DspEngine()


class Separator:
    """
    Separates audio files; the same file is separated once.

    :param cache: Folder of the results, by content.
    :param engine: ``auto``, ``spleeter`` or ``dsp``; loaded when it is needed first.
    :param tiny: Answer with a third of a second of the mix instead of separating.
    """

    def __init__(self, cache: Path, engine: str = "auto", *, tiny: bool = False) -> None:
        self.cache = cache
        self.tiny = tiny
        self._kind = engine
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self.separations = 0

    def separate(
        self, source: bytes, separation_type: SeparationType, stem_name: str | None
    ) -> tuple[dict[str, Path], float]:
        """
        Separate an audio file.

        :param source: The file.
        :param separation_type: What into.
        :param stem_name: The stem of an advanced separation.
        :return: MP3 files by stem (``extract`` and ``remove`` for an advanced one), without the empty ones, and the
            length in seconds.
        :raises NotAudioError: the file cannot be decoded.
        """
        with self._lock:
            engine = self._loaded()
            names = "-".join([separation_type.value, stem_name or "", engine.name if engine else "tiny"])
            folder = (
                self.cache
                / f"{hashlib.sha256(source).hexdigest()[:32]}-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
            )
            if not (folder / "seconds").exists():
                self.separations += 1
                self._make(folder, source, separation_type, stem_name)
        stems = {path.stem: path for path in sorted(folder.glob("*.mp3"))}
        return stems, float((folder / "seconds").read_text())

    def _loaded(self) -> Engine | None:
        if self._engine is None and not self.tiny:
            self._engine = load_engine(self._kind)
        return self._engine

    def _make(
        self, folder: Path, source: bytes, separation_type: SeparationType, stem_name: str | None
    ) -> None:
        mix = decode(source)
        folder.mkdir(parents=True, exist_ok=True)
        for name, samples in self._parts(mix, separation_type, stem_name).items():
            if self.tiny or loudness(samples) > _SILENCE:
                (folder / f"{name}.mp3").write_bytes(encode_mp3(samples))
        (folder / "seconds").write_text(f"{len(mix) / RATE:.3f}")

    def _parts(self, mix: Audio, separation_type: SeparationType, stem_name: str | None) -> dict[str, Audio]:
        if self._engine is None:
            tiny = mix[: int(_TINY_SECONDS * RATE)]
            return dict.fromkeys(_promised(separation_type), tiny)
        vocals = self._engine.vocals(mix)
        rest = mix - vocals
        if separation_type is SeparationType.SEPARATE_VOCAL:
            return {Stem.VOCALS.value: vocals, Stem.INSTRUMENTAL.value: rest}
        parts = {Stem.VOCALS.value: vocals, **divide(rest)}
        if separation_type is SeparationType.SPLIT_STEM:
            return parts
        extract = parts.get(_nearest(stem_name or ""), vocals)
        return {"extract": extract, "remove": mix - extract}


def _promised(separation_type: SeparationType) -> tuple[str, ...]:
    if separation_type is SeparationType.SEPARATE_VOCAL:
        return (Stem.VOCALS.value, Stem.INSTRUMENTAL.value)
    if separation_type is SeparationType.SPLIT_STEM:
        return (Stem.VOCALS.value, "drums", "bass", "guitar", "keyboard")
    return ("extract", "remove")


def _nearest(stem_name: str) -> str:
    """Say which of our parts comes nearest to one of the vendor's ninety stem names."""
    words = stem_name.lower()
    for part, hints in {
        "drums": ("drum", "kick", "snare", "hat", "cymbal", "tom", "percussion"),
        "bass": ("bass",),
        "guitar": ("guitar",),
        "keyboard": ("piano", "key", "organ", "synth"),
    }.items():
        if any(hint in words for hint in hints):
            return part
    return "vocals"
