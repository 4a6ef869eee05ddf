"""From a mix to the vendor's stems, with results kept by content."""

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

#: Part of each result's name in the cache: raise it when an engine answers differently than before.
_VERSION = 3

#: Below this root mean square (-60 dB) one of the twelve stems counts as not there.
_SILENCE = 1e-3

#: Seconds of the stems that stand in for separation when the sandbox is loaded with thousands of tracks.
_TINY_SECONDS = 0.3


class Engine(Protocol):
    """What separates."""

    name: str

    def vocals(self, mix: Audio) -> Audio:
        """Return the vocals of a mix."""


def pick_engine(kind: str) -> tuple[str, Callable[[], Engine]]:
    """
    Decide which engine serves, without loading it: what is in the cache needs none.

    :param kind: ``spleeter``, ``dsp``, or ``auto`` for the first if its weights are there.
    :return: Its name and what loads it.
    :raises WeightsMissingError: ``spleeter`` was asked for and has no weights.
    """
    if kind != "dsp":
        try:
            return SpleeterEngine.name, functools.partial(SpleeterEngine, find_weights())
        except WeightsMissingError as e:
            if kind == "spleeter":
                raise
            log.warning("Separating with plain signal processing, which is rough. %s", e)
    return DspEngine.name, DspEngine


class Separator:
    """
    Separates audio files; the same file is separated once.

    :param cache: Folder of the results, by content.
    :param engine: ``auto``, ``spleeter`` or ``dsp``; loaded when it is needed first.
    :param tiny: Answer with a third of a second of the mix instead of separating.
    :raises WeightsMissingError: ``spleeter`` was asked for and has no weights.
    """

    def __init__(self, cache: Path, engine: str = "auto", *, tiny: bool = False) -> None:
        self.cache = cache
        self.engine_name = "tiny"
        self._load: Callable[[], Engine] | None = None
        if not tiny:
            self.engine_name, self._load = pick_engine(engine)
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        #: How often something was really separated, rather than found in the cache.
        self.separations = 0

    def separate(
        self, source: bytes, separation_type: SeparationType, stem_name: str | None
    ) -> tuple[dict[str, Path], float]:
        """
        Separate an audio file.

        :param source: The file.
        :param separation_type: What into.
        :param stem_name: The stem of an advanced separation.
        :return: MP3 files by stem (``extract`` and ``remove`` for an advanced one), of ``split_stem`` those in which
            there is something to hear, and their length in seconds.
        :raises NotAudioError: the file cannot be decoded.
        """
        wanted = f"{separation_type} {stem_name or ''} {self.engine_name} {_VERSION}"
        digests = (hashlib.sha256(part).hexdigest() for part in (source, wanted.encode()))
        folder = self.cache / "-".join(digest[:32] for digest in digests)
        with self._lock:
            if not folder.exists():
                self.separations += 1
                self._make(folder, source, separation_type, stem_name)
        stems = {path.stem: path for path in sorted(folder.glob("*.mp3"))}
        return stems, float((folder / "seconds").read_text())

    def _make(
        self, folder: Path, source: bytes, separation_type: SeparationType, stem_name: str | None
    ) -> None:
        parts = self._parts(decode(source), separation_type, stem_name)
        self.cache.mkdir(parents=True, exist_ok=True)
        # Another sandbox may use the same cache: a result appears there whole or not at all.
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

    def _parts(self, mix: Audio, separation_type: SeparationType, stem_name: str | None) -> dict[str, Audio]:
        if self._load is None:
            return dict.fromkeys(_promised(separation_type), mix[: int(_TINY_SECONDS * RATE)])
        self._engine = self._engine or self._load()
        vocals = self._engine.vocals(mix)
        rest = mix - vocals
        if separation_type is SeparationType.SEPARATE_VOCAL:
            return {Stem.VOCALS.value: vocals, Stem.INSTRUMENTAL.value: rest}
        parts = {Stem.VOCALS.value: vocals, **divide(rest)}
        if separation_type is SeparationType.SPLIT_STEM:
            return {name: part for name, part in parts.items() if loudness(part) > _SILENCE}
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
