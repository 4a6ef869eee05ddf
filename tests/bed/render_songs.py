"""
Renders the sandbox's songs: voice and band as separate files, so that the true stems of each mix are known.

Run it after a change to a song, and commit the files that it writes. It needs Debian's ``festival``,
``festvox-kallpc16k``, ``fluidsynth`` and ``timgm6mb-soundfont``, and ``mido`` from PyPI::

    python -m tests.bed.render_songs

All melodies and words are out of copyright: Daisy Bell (Harry Dacre, 1892), Auld Lang Syne (traditional,
words Robert Burns, 1788), Scarborough Fair (traditional), Ah ! vous dirai-je (1761, English words Jane
Taylor, 1806).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np
import soundfile

from airflow_provider_vocalsep.sandbox import songs
from airflow_provider_vocalsep.sandbox.engine.audio import RATE, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path(songs.__file__).parent
SOUNDFONT = "/usr/share/sounds/sf2/TimGM6mb.sf2"

#: Seconds of the band before the voice starts.
LEAD_IN = 1.0


@dataclass(frozen=True)
class Song:
    """
    One song.

    :param key: Name of its files.
    :param bpm: Beats per minute.
    :param beats: Beats per bar.
    :param tune: Words of the form ``syllable:note/beats``; ``-/beats`` is a rest.
    :param chords: Chords as MIDI numbers, one per bar, repeated to the end.
    :param programs: General MIDI programs of harmony, bass and second voice.
    :param transpose: Semitones by which the song is sung and played higher than written.
    """

    key: str
    title: str
    bpm: int
    beats: int
    tune: str
    chords: tuple[tuple[int, ...], ...]
    programs: tuple[int, int, int]
    transpose: int

    @property
    def notes(self) -> list[tuple[str, str, float]]:
        """Syllable, note and beats of each note; the syllable of a rest is empty."""
        found = []
        for token in self.tune.split():
            head, beats = token.rsplit("/", 1)
            syllable, _, note = head.partition(":")
            found.append(
                (syllable if note else "", _transpose(note, self.transpose) if note else "", float(beats))
            )
        return found


G, C, D, EM, AM, F, DM = (
    (55, 59, 62),
    (48, 52, 55),
    (50, 54, 57),
    (52, 55, 59),
    (57, 60, 64),
    (53, 57, 60),
    (50, 53, 57),
)

SONGS = (
    Song(
        key="daisy-bell",
        title="Daisy Bell",
        bpm=170,
        beats=3,
        tune="""
            day:D4/3 zee:B3/3 day:G3/3 zee:D3/3 give:E3/1 me:F#3/1 your:G3/1 an:E3/2 ser:G3/1 do:D3/5 -/1
            I'm:A3/3 half:D4/3 cray:B3/3 zee:G3/3 all:E3/1 for:F#3/1 the:G3/1 love:A3/2 of:B3/1 you:A3/5 -/1
        """,
        chords=(G, G, C, G, C, C, G, G, D, G, G, G, C, D, D, D),
        programs=(0, 32, 24),
        transpose=5,
    ),
    Song(
        key="auld-lang-syne",
        title="Auld Lang Syne",
        bpm=100,
        beats=4,
        tune="""
            should:D3/1 old:G3/1.5 a:G3/0.5 kwaint:G3/1 dance:B3/1 be:A3/1.5 for:G3/0.5 got:A3/1 and:B3/1
            nev:G3/1.5 err:G3/0.5 brought:B3/1 to:D4/1 mind:E4/3
            should:E4/1 old:D4/1.5 a:B3/0.5 kwaint:B3/1 dance:G3/1
            be:A3/1.5 for:G3/0.5 got:A3/1 and:B3/1 days:G3/1.5 of:E3/0.5 old:E3/1 lang:D3/1 sign:G3/3
        """,
        chords=(G, D, G, C, G, D, C, G),
        programs=(0, 33, 25),
        transpose=3,
    ),
    Song(
        key="scarborough-fair",
        title="Scarborough Fair",
        bpm=120,
        beats=3,
        tune="""
            are:D3/2 you:D3/1 go:A3/2 wing:A3/1 to:E3/1.5 scar:F3/0.5 bur:E3/1 row:D3/1 fair:D3/3 -/2
            par:A3/1 slee:C4/1 sage:D4/2 rose:C4/1 ma:A3/1 ree:B3/1 and:G3/1 time:A3/5 -/1
            re:D4/2 mem:D4/1 ber:D4/1 me:C4/2 to:A3/1 one:A3/1 who:G3/1 lives:F3/1 there:E3/1 -/2
        """,
        chords=(DM, DM, C, DM, F, C, AM, AM),
        programs=(0, 32, 46),
        transpose=3,
    ),
    Song(
        key="ah-vous-dirai-je",
        title="Ah ! Vous dirai-je, étoile",
        bpm=120,
        beats=4,
        tune="""
            twin:C3/1 kell:C3/1 twin:G3/1 kell:G3/1 lit:A3/1 tell:A3/1 star:G3/2
            how:F3/1 I:F3/1 one:E3/1 der:E3/1 what:D3/1 you:D3/1 are:C3/2
            up:G3/1 a:G3/1 bove:F3/1 the:F3/1 world:E3/1 so:E3/1 high:D3/2
            like:G3/1 a:G3/1 die:F3/1 mond:F3/1 in:E3/1 the:E3/1 sky:D3/2
        """,
        chords=(C, C, F, C, F, C, G, C),
        programs=(4, 33, 24),
        transpose=7,
    ),
)


_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def _transpose(note: str, semitones: int) -> str:
    octave, degree = divmod(_NOTES.index(note[:-1]) + 12 * int(note[-1]) + semitones, 12)
    return f"{_NOTES[degree]}{octave}"


def sing(song: Song, folder: Path) -> Any:
    """Sing a song with festival, and return the samples at the sandbox's rate with a peak of 1."""
    lines = [
        f'<DURATION BEATS="{beats}"><PITCH NOTE="{note}">{escape(syllable)}</PITCH></DURATION>'
        if note
        else f'<REST BEATS="{beats}"></REST>'
        for syllable, note, beats in song.notes
    ]
    document = folder / "song.xml"
    document.write_text(
        '<?xml version="1.0"?>\n'
        '<!DOCTYPE SINGING PUBLIC "-//SINGING//DTD SINGING mark up//EN" "Singing.v0_1.dtd" []>\n'
        f'<SINGING BPM="{song.bpm}">\n' + "\n".join(lines) + "\n</SINGING>\n"
    )
    wave = folder / "voice.wav"
    subprocess.run(["text2wave", "-mode", "singing", "-o", wave, document], check=True, capture_output=True)
    voice = decode(wave.read_bytes())
    return voice / np.abs(voice).max()


def play(song: Song, folder: Path) -> Any:
    """Play the band with fluidsynth, and return the samples at the sandbox's rate with a peak of 1."""
    import mido

    bars = int(sum(beats for _, _, beats in song.notes) / song.beats) + 3
    harmony, bass, second = song.programs
    midi = mido.MidiFile(ticks_per_beat=480)
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(song.bpm))]))

    def part(
        channel: int, program: int, pan: int, volume: int, notes: Sequence[tuple[float, float, int, int]]
    ) -> None:
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        for control, value in ((10, pan), (7, volume)):
            track.append(mido.Message("control_change", channel=channel, control=control, value=value))
        events = sorted(
            [(start, 1, note, velocity) for start, _, note, velocity in notes]
            + [(start + length, 0, note, 0) for start, length, note, _ in notes]
        )
        last = 0
        for beat, on, note, velocity in events:
            now = int(beat * 480)
            kind = "note_on" if on else "note_off"
            track.append(mido.Message(kind, channel=channel, note=note, velocity=velocity, time=now - last))
            last = now
        midi.tracks.append(track)

    chord = [[note + song.transpose for note in song.chords[bar % len(song.chords)]] for bar in range(bars)]
    at = [(bar, bar * song.beats) for bar in range(bars)]
    half_beats = range(2 * song.beats)
    harmonies = [(b + k, 0.9, n + 12, 72) for i, b in at for k in range(song.beats) for n in chord[i]]
    basses = [(b + k, 0.9, chord[i][0] - 12, 92) for i, b in at for k in range(song.beats)]
    seconds = [(b + k / 2, 0.4, chord[i][k % 3] + 12, 66) for i, b in at for k in half_beats]
    drums = [
        *((b + k / 2, 0.2, 42, 68) for _, b in at for k in half_beats),
        *((b, 0.2, 36, 112) for _, b in at),
        *((b + k, 0.2, 38, 92) for _, b in at for k in range(1, song.beats)),
    ]
    part(0, harmony, 34, 90, harmonies)
    part(1, bass, 64, 110, basses)
    part(2, second, 94, 85, seconds)
    part(9, 0, 64, 100, drums)

    midi.save(folder / "band.mid")
    wave = folder / "band.wav"
    options = ["-ni", "-q", "-r", str(RATE), "-g", "0.7", "-F", str(wave)]
    subprocess.run(["fluidsynth", *options, SOUNDFONT, folder / "band.mid"], check=True, capture_output=True)
    band = decode(wave.read_bytes())
    return band / np.abs(band).max()


def render(song: Song) -> dict[str, Any]:
    """Write the two files of a song, and return its row of the catalogue."""
    with tempfile.TemporaryDirectory() as folder:
        voice, band = sing(song, Path(folder)), play(song, Path(folder))
    lead = int(LEAD_IN * RATE)
    length = len(voice) + 2 * lead
    sung = np.zeros((length, 2), "f4")
    sung[lead : lead + len(voice)] = voice
    backing = np.zeros((length, 2), "f4")
    backing[: min(length, len(band))] = band[:length]
    fade = np.linspace(1, 0, lead, dtype="f4")[:, None]
    backing[-lead:] *= fade
    # Voice and band are equally loud while the voice sings; the peak of their sum is just below full scale.
    sung *= 0.1 / np.sqrt(np.mean(voice**2))
    backing *= 0.1 / np.sqrt(np.mean(backing**2))
    scale = 0.9 / np.abs(sung + backing).max()
    for part, samples in (("vocals", sung[:, :1]), ("backing", backing)):
        soundfile.write(
            FOLDER / f"{song.key}.{part}.ogg", samples * scale, RATE, format="OGG", subtype="VORBIS"
        )
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"vocalsep-sandbox/{song.key}")
    return {
        "key": song.key,
        "title": song.title,
        "task_id": uuid.uuid5(name, "task").hex,
        "audio_id": str(name),
        "duration": round(length / RATE, 2),
    }


if __name__ == "__main__":
    rows = [render(song) for song in SONGS]
    (FOLDER / "catalogue.json").write_text(
        json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
