"""Given any JSON value or any bytes, a parser either returns or raises a VocalSepError."""

from __future__ import annotations

import copy
import json
import re

import api_examples as examples
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from airflow_provider_vocalsep.api.answers import parse_credits, parse_record, parse_submit
from airflow_provider_vocalsep.api.callbacks import parse_callback
from airflow_provider_vocalsep.api.codes import Occasion, classify, classify_task
from airflow_provider_vocalsep.api.dialects import DIALECTS
from airflow_provider_vocalsep.api.errors import SubmitOutcomeUnknownError, VendorError, VocalSepError
from airflow_provider_vocalsep.api.fields import read_time
from airflow_provider_vocalsep.api.requests import slug_of
from airflow_provider_vocalsep.api.signature import sign, verify
from airflow_provider_vocalsep.api.track import Track

thorough = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)

# With lone surrogates, which JSON can express and UTF-8 cannot.
text = st.text(st.characters(exclude_categories=()), max_size=20)
words = text | st.sampled_from(
    [
        "",
        "PENDING",
        "SUCCESS",
        "Vocals",
        "200",
        "1753782854000",
        "2025-07-29 09:54:14",
        "0001-01-01T00:00:00+14:00",
    ]
    + ["https://h/a b.mp3", "https://[", "http://\ud800/", "https://h:99999/x", "data:audio/mpeg;base64,AAAA"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
keys = text | st.sampled_from(
    [
        "code",
        "msg",
        "data",
        "taskId",
        "task_id",
        "successFlag",
        "response",
        "originData",
        "origin_data",
        "extract",
    ]
    + [
        "remove",
        "audio_url",
        "stem_type_group_name",
        "id",
        "duration",
        "vocal_removal_info",
        "vocal_separation_info",
    ]
    + ["createTime", "errorCode", "Url", "_url", "vocalUrl", "vocal_url", "xUrl", "credits"]
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=6), max_leaves=20
)
statuses = st.integers(100, 599)
dialects = st.sampled_from(list(DIALECTS.values()))


def paths(value, path=()):
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from paths(child, (*path, key))


@st.composite
def broken_documents(draw, documented):
    """Draw a documented body in which one to three values are replaced by any other."""
    whole = copy.deepcopy({"_": draw(st.sampled_from(documented))})
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([p for p in paths(whole) if p]))
        parent = whole
        for key in parents:
            parent = parent[key]
        parent[last] = draw(values)
    return whole["_"]


ANSWERS = [
    examples.envelope(record)
    for record in (
        examples.RECORD_TWO_STEMS,
        examples.RECORD_TWELVE_STEMS,
        examples.RECORD_ADVANCED,
        examples.RECORD_PENDING,
        examples.RECORD_FAILED,
        {"taskId": examples.TWO_STEMS_ID},
        5916.25,
    )
]
CALLBACKS = [
    examples.CALLBACK_TWO_STEMS,
    examples.CALLBACK_TWELVE_STEMS,
    examples.CALLBACK_KIE_TWO_STEMS,
    examples.CALLBACK_ADVANCED,
    examples.CALLBACK_FAILED,
]


def as_body(value) -> bytes:
    return json.dumps(value).encode()


bodies = st.binary(max_size=200) | values.map(as_body) | broken_documents(ANSWERS + CALLBACKS).map(as_body)
truncated = st.tuples(st.sampled_from(ANSWERS + CALLBACKS).map(as_body), st.integers(0, 400)).map(
    lambda cut: cut[0][: cut[1]]
)


def check_stems(stems) -> None:
    assert len({stem.name for stem in stems}) == len(stems)
    for stem in stems:
        assert re.fullmatch(r"[a-z0-9_]+", stem.name)
        assert stem.url is None or re.fullmatch(r"(?i:https?)://[!-~]+", stem.url)
        assert stem.duration is None or stem.duration > 0


def check_text(*texts: str | None) -> None:
    for each in texts:
        assert (each or "").encode("utf-8") is not None
        assert len(each or "") < 2000


@pytest.mark.parametrize("parse", [parse_submit, parse_record, parse_credits])
@thorough
@given(status=statuses, body=bodies | truncated, dialect=dialects)
def test_answer_is_parsed_or_raises_a_vocalsep_error(parse, status, body, dialect):
    try:
        parse(status, body, dialect)
    except VocalSepError as e:
        check_text(str(e), getattr(e, "vendor_message", None))


@thorough
@given(answer=broken_documents(ANSWERS), dialect=dialects)
def test_parsed_record_has_valid_stems_and_text(answer, dialect):
    try:
        task = parse_record(200, as_body(answer), dialect)
    except VocalSepError:
        return
    if task is not None:
        check_stems(task.stems)
        check_text(task.task_id, task.music_id, task.error_message)
        classify_task(task, dialect)


@thorough
@given(status=statuses, body=bodies | truncated, dialect=dialects)
def test_submit_answer_is_an_id_a_refusal_or_an_unknown_outcome(status, body, dialect):
    refused_with = None
    try:
        task_id = parse_submit(status, body, dialect)
    except VendorError as e:
        refused_with = e.code
    except SubmitOutcomeUnknownError:
        return
    if refused_with is None:
        assert task_id
        assert task_id.isprintable()
    else:
        assert 300 <= refused_with < 600


@thorough
@given(body=bodies | truncated | broken_documents(CALLBACKS).map(as_body))
def test_callback_is_parsed_or_raises_a_vocalsep_error(body):
    try:
        callback = parse_callback(body)
    except VocalSepError as e:
        check_text(str(e))
    else:
        check_stems(callback.stems)
        check_text(callback.task_id, callback.message)


@thorough
@given(value=values | st.dictionaries(st.sampled_from([*Track.model_fields, "x"]), values))
def test_track_is_parsed_or_raises_a_vocalsep_error(value):
    try:
        track = Track.parse(value)
    except VocalSepError:
        return

    assert track.key
    assert track.audio_url or (track.task_id and track.audio_id)


@thorough
@given(code=st.integers(), dialect=dialects, occasion=st.sampled_from(Occasion))
def test_every_integer_has_a_verdict(code, dialect, occasion):
    assert classify(code, dialect, occasion)


@thorough
@given(value=values)
def test_time_is_utc_or_none(value):
    moment = read_time(value)

    assert moment is None or moment.utcoffset().total_seconds() == 0


@thorough
@given(name=text)
def test_slug_is_a_valid_part_of_an_object_key(name):
    assert re.fullmatch(r"[a-z0-9_]+", slug_of(name))


@thorough
@given(key=text, task_id=text, timestamp=text, signature=text)
def test_random_signature_neither_verifies_nor_raises(key, task_id, timestamp, signature):
    assert not verify(key, task_id, timestamp, signature, now=1769670760)


@thorough
@given(key=text.filter(bool), task_id=text, timestamp=st.integers(0, 2**40))
def test_signed_delivery_verifies(key, task_id, timestamp):
    assert verify(key, task_id, str(timestamp), sign(key, task_id, timestamp), now=timestamp)
