"""Separates a mix into the vendor's stems, with a cache by content."""

from __future__ import annotations

import functools
import hashlib
import logging
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from airflow_provider_vocalsep.api.vocabulary import SeparationType, Stem
from airflow_provider_vocalsep.sandbox.engine.audio import RATE, decode, encode_mp3, loudness
from airflow_provider_vocalsep.sandbox.engine.dsp import DspEngine, divide
from airflow_provider_vocalsep.sandbox.engine.spleeter import (
    SpleeterEngine,
    WeightsMissingError,
    find_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_vocalsep.sandbox.engine.audio import Audio

log = logging.getLogger(__name__)

#: Part of each result's name in the cache: increase it when the result of an engine changes.
_VERSION = 3

#: Root mean square (-60 dB) below which one of the twelve stems counts as absent.
_SILENCE = 1e-3

#: Seconds of the stems that replace separation in load tests.
_TINY_SECONDS = 0.3


class Engine(Protocol):
    """Separates the vocals of a mix."""

    name: str

    def vocals(self, mix: Audio) -> Audio:
        """Return the vocals of a mix."""


def pick_engine(kind: str) -> tuple[str, Callable[[], Engine]]:
    """
    Choose an engine without loading it: cached results need none.

    :param kind: ``spleeter``, ``dsp``, or ``auto`` for ``spleeter`` if its weights are installed.
    :return: Name of the engine, and a function that loads it.
    :raises WeightsMissingError: ``spleeter`` without its weights.
    """
    if kind != "dsp":
        try:
            return SpleeterEngine.name, functools.partial(SpleeterEngine, find_weights())
        except WeightsMissingError as e:
            if kind == "spleeter":
                raise
            log.warning("Separating with approximate signal processing. %s", e)
    return DspEngine.name, DspEngine


class Separator:
    """
    Separates audio files, each of them once.

    :param cache: Folder of the results.
    :param engine: ``auto``, ``spleeter`` or ``dsp``; loaded at the first use.
    :param tiny: Return a third of a second of the mix instead of separating it.
    :raises WeightsMissingError: ``spleeter`` without its weights.
    """

    def __init__(self, cache: Path, engine: str = "auto", *, tiny: bool = False) -> None:
        self.cache = cache
        self.engine_name = "tiny"
        self._load: Callable[[], Engine] | None = None
        if not tiny:
            self.engine_name, self._load = pick_engine(engine)
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        #: Number of separations that were not in the cache.
        self.separations = 0

    def separate(
        self, source: bytes, separation_type: SeparationType, stem_name: str | None
    ) -> tuple[dict[str, Path], float]:
        """
        Separate an audio file.

        :param stem_name: Stem of an advanced separation.
        :return: MP3 files by stem (``extract`` and ``remove`` for an advanced separation, without silent
            stems for ``split_stem``), and their length in seconds.
        :raises NotAudioError: the file cannot be decoded.
        """
        settings = f"{separation_type} {stem_name or ''} {self.engine_name} {_VERSION}"
        digests = (hashlib.sha256(part).hexdigest() for part in (source, settings.encode()))
        folder = self.cache / "-".join(digest[:32] for digest in digests)
        with self._lock:
            if not folder.exists():
                self.separations += 1
                self._write_stems(folder, source, separation_type, stem_name)
        stems = {path.stem: path for path in sorted(folder.glob("*.mp3"))}
        return stems, float((folder / "seconds").read_text())

    def _write_stems(
        self, folder: Path, source: bytes, separation_type: SeparationType, stem_name: str | None
    ) -> None:
        parts = self._separate_mix(decode(source), separation_type, stem_name)
        self.cache.mkdir(parents=True, exist_ok=True)
        # Another sandbox may use the same cache, so that a result must appear there completely or not at all.
        with tempfile.TemporaryDirectory(dir=self.cache, ignore_cleanup_errors=True) as unfinished:
            result = Path(unfinished) / "result"
            result.mkdir()
            for name, samples in parts.items():
                (result / f"{name}.mp3").write_bytes(encode_mp3(samples))
            seconds = max((len(samples) for samples in parts.values()), default=0) / RATE
            (result / "seconds").write_text(f"{seconds:.3f}")
            try:
                result.rename(folder)
            except OSError:
                if not folder.exists():
                    raise

    def _separate_mix(
        self, mix: Audio, separation_type: SeparationType, stem_name: str | None
    ) -> dict[str, Audio]:
        if self._load is None:
            return dict.fromkeys(_stem_names(separation_type), mix[: int(_TINY_SECONDS * RATE)])
        self._engine = self._engine or self._load()
        vocals = self._engine.vocals(mix)
        rest = mix - vocals
        if separation_type is SeparationType.SEPARATE_VOCAL:
            return {Stem.VOCALS.value: vocals, Stem.INSTRUMENTAL.value: rest}
        parts = {Stem.VOCALS.value: vocals, **divide(rest)}
        if separation_type is SeparationType.SPLIT_STEM:
            return {name: part for name, part in parts.items() if loudness(part) > _SILENCE}
        extract = parts.get(_match_stem_name(stem_name or ""), vocals)
        return {"extract": extract, "remove": mix - extract}


def _stem_names(separation_type: SeparationType) -> tuple[str, ...]:
    if separation_type is SeparationType.SEPARATE_VOCAL:
        return (Stem.VOCALS.value, Stem.INSTRUMENTAL.value)
    if separation_type is SeparationType.SPLIT_STEM:
        return (Stem.VOCALS.value, "drums", "bass", "guitar", "keyboard")
    return ("extract", "remove")


def _match_stem_name(stem_name: str) -> str:
    """Return which of our parts matches one of the vendor's ninety stem names best."""
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
