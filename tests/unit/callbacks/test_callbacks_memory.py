"""What is remembered of callbacks, and how much of it at most."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_vocalsep.api.models import Callback
from airflow_provider_vocalsep.callbacks.inbox import (
    MAX_DELIVERIES,
    MAX_TASKS,
    callbacks_by_attempt,
    inbox_key,
    received_callbacks,
    record_delivery,
)

AT = datetime(2026, 11, 23, tzinfo=timezone.utc)
DONE = Callback("t1", 200, "done")


def test_a_callback_is_remembered_with_what_it_says():
    value, new = record_delivery(None, DONE, AT)
    (heard,) = received_callbacks(json.loads(json.dumps(value)))

    assert new
    assert (heard.vendor_task_id, heard.code, heard.message, heard.count) == ("t1", 200, "done", 1)
    assert datetime.fromisoformat(heard.first_at) == AT


def test_a_duplicate_only_counts():
    once, _ = record_delivery(None, DONE, AT)
    twice, new = record_delivery(once, Callback("t1", 500, "something else"), AT + timedelta(seconds=9))
    (heard,) = received_callbacks(twice)

    assert not new
    assert (heard.code, heard.message, heard.count) == (200, "done", 2)
    assert datetime.fromisoformat(heard.last_at) - datetime.fromisoformat(heard.first_at) == timedelta(
        seconds=9
    )


def test_a_second_vendor_task_of_one_attempt_stands_beside_the_first():
    value, _ = record_delivery(None, DONE, AT)
    value, new = record_delivery(value, Callback("t2", 200), AT)

    assert new
    assert [heard.vendor_task_id for heard in received_callbacks(value)] == ["t1", "t2"]


def test_replays_do_not_fill_the_database():
    value = None
    for _ in range(MAX_DELIVERIES):
        value, _ = record_delivery(value, DONE, AT)
    assert record_delivery(value, DONE, AT) == (None, False)

    for number in range(MAX_TASKS - 1):
        value, _ = record_delivery(value, Callback(f"other-{number}", 200), AT)
    assert record_delivery(value, Callback("one too many", 200), AT) == (None, False)


def test_a_message_is_shortened_and_cannot_forge_a_line():
    value, _ = record_delivery(None, Callback("t1", 500, "bad\nline\x1b[31m" + "x" * 9000), AT)
    (heard,) = received_callbacks(value)

    assert heard.message.startswith("bad line")
    assert heard.message.isprintable()
    assert len(heard.message) == 500


@pytest.mark.parametrize("value", [None, [], "x", {}, [{"something": "else"}], 3.0, [1]])
def test_what_we_did_not_write_counts_as_nothing(value):
    assert received_callbacks(value) == []


def test_keys_tell_attempts_apart():
    assert inbox_key("a") != inbox_key("b")
    assert inbox_key("a").startswith("vocalsep-callback-")


def test_a_batch_keeps_what_it_heard_by_attempt():
    value, _ = record_delivery(None, DONE, AT)
    heard = callbacks_by_attempt({"attempt-1": value, "attempt-2": "nonsense"})
    assert [item.vendor_task_id for item in heard["attempt-1"]] == ["t1"]
    assert heard["attempt-2"] == []
    assert callbacks_by_attempt(None) == callbacks_by_attempt([1]) == {}
