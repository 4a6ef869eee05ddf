"""The sandbox's songs. Their true stems are known, because each mix is the sum of two files."""

from __future__ import annotations

import functools
import io
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_vocalsep.sandbox.engine.audio import Audio

_FOLDER = resources.files(__name__)


@dataclass(frozen=True)
class SandboxSong:
    """
    One song.

    :param key: Key in catalogues.
    :param task_id: Id of the vendor task that is said to have generated it.
    :param audio_id: Id inside that task.
    :param duration: Seconds.
    """

    key: str
    title: str
    task_id: str
    audio_id: str
    duration: float

    def part(self, name: str) -> Audio:
        """Return the true ``vocals`` or ``backing``: samples × 2, 44.1 kHz."""
        from airflow_provider_vocalsep.sandbox.engine.audio import decode

        return decode((_FOLDER / f"{self.key}.{name}.ogg").read_bytes())

    def mix(self) -> Audio:
        """Return the sum of both parts."""
        return self.part("vocals") + self.part("backing")

    @functools.cached_property
    def file(self) -> bytes:
        """The mix as a FLAC file."""
        import soundfile

        from airflow_provider_vocalsep.sandbox.engine.audio import RATE

        out = io.BytesIO()
        soundfile.write(out, self.mix(), RATE, format="FLAC")
        return out.getvalue()


@functools.cache
def songs() -> tuple[SandboxSong, ...]:
    """Return the songs."""
    rows = json.loads((_FOLDER / "catalogue.json").read_text(encoding="utf-8"))
    return tuple(SandboxSong(**row) for row in rows)
