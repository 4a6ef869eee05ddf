"""
Separation types, task states and stems, as the vendors spell them.

Sources: docs.sunoapi.org ``suno-api/separate-vocals-from-music`` (request ``type``),
``suno-api/get-vocal-separation-details`` (``successFlag``, ``response`` keys) and
``suno-api/separate-vocals-from-music-callbacks`` (callback keys); docs.kie.ai has the same pages.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class _Word(str, Enum):
    """A string enum that prints as its value, for messages and object keys."""

    def __str__(self) -> str:
        return str(self.value)


class SeparationType(_Word):
    """Kind of separation (request field ``type``)."""

    SEPARATE_VOCAL = "separate_vocal"
    SPLIT_STEM = "split_stem"
    SPLIT_STEM_ADVANCED = "split_stem_advanced"


#: Price of one separation in credits (docs.kie.ai, submit page; api.box for sunoapi.org).
CREDITS = {
    SeparationType.SEPARATE_VOCAL: 10,
    SeparationType.SPLIT_STEM: 50,
    SeparationType.SPLIT_STEM_ADVANCED: 20,
}


class TaskStatus(_Word):
    """State of a vendor task (record field ``successFlag``)."""

    PENDING = "PENDING"
    SUCCESS = "SUCCESS"
    CREATE_TASK_FAILED = "CREATE_TASK_FAILED"
    GENERATE_AUDIO_FAILED = "GENERATE_AUDIO_FAILED"
    #: The vendor could not deliver its callback. The separation itself may have succeeded.
    CALLBACK_EXCEPTION = "CALLBACK_EXCEPTION"


class Stem(_Word):
    """One separated part of a track. The value is the name of its object in the bucket."""

    VOCALS = "vocals"
    INSTRUMENTAL = "instrumental"
    BACKING_VOCALS = "backing_vocals"
    DRUMS = "drums"
    BASS = "bass"
    GUITAR = "guitar"
    PIANO = "piano"
    KEYBOARD = "keyboard"
    PERCUSSION = "percussion"
    STRINGS = "strings"
    SYNTH = "synth"
    FX = "fx"
    BRASS = "brass"
    WOODWINDS = "woodwinds"


class StemSpelling(NamedTuple):
    """
    The vendor's names of one stem.

    :param record: Key in ``data.response`` of record-info (camelCase).
    :param callback: Key in the callback's container (snake_case).
    :param group: ``stem_type_group_name`` in ``originData`` and, with underscores, the file name's suffix.
    """

    record: str
    callback: str
    group: str


STEM_SPELLINGS: dict[Stem, StemSpelling] = {
    Stem.VOCALS: StemSpelling("vocalUrl", "vocal_url", "Vocals"),
    Stem.INSTRUMENTAL: StemSpelling("instrumentalUrl", "instrumental_url", "Instrumental"),
    Stem.BACKING_VOCALS: StemSpelling("backingVocalsUrl", "backing_vocals_url", "Backing Vocals"),
    Stem.DRUMS: StemSpelling("drumsUrl", "drums_url", "Drums"),
    Stem.BASS: StemSpelling("bassUrl", "bass_url", "Bass"),
    Stem.GUITAR: StemSpelling("guitarUrl", "guitar_url", "Guitar"),
    Stem.PIANO: StemSpelling("pianoUrl", "piano_url", "Piano"),
    Stem.KEYBOARD: StemSpelling("keyboardUrl", "keyboard_url", "Keyboard"),
    Stem.PERCUSSION: StemSpelling("percussionUrl", "percussion_url", "Percussion"),
    Stem.STRINGS: StemSpelling("stringsUrl", "strings_url", "Strings"),
    Stem.SYNTH: StemSpelling("synthUrl", "synth_url", "Synth"),
    Stem.FX: StemSpelling("fxUrl", "fx_url", "FX"),
    Stem.BRASS: StemSpelling("brassUrl", "brass_url", "Brass"),
    Stem.WOODWINDS: StemSpelling("woodwindsUrl", "woodwinds_url", "Woodwinds"),
}

#: Stems that each separation type yields. ``split_stem_advanced`` yields a pair named after ``stemName``.
#: Only kie documents ``piano``, and no published answer fills it, so it is not expected.
EXPECTED_STEMS: dict[SeparationType, tuple[Stem, ...]] = {
    SeparationType.SEPARATE_VOCAL: (Stem.VOCALS, Stem.INSTRUMENTAL),
    SeparationType.SPLIT_STEM: tuple(s for s in Stem if s not in (Stem.INSTRUMENTAL, Stem.PIANO)),
}
