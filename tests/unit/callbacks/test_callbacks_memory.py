"""The inbox: which callbacks are stored, and how many at most."""

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


class TestRecordDelivery:
    def test_first_delivery_is_stored_with_its_fields(self):
        value, new = record_delivery(None, DONE, AT)

        (callback,) = received_callbacks(json.loads(json.dumps(value)))
        assert new
        assert (callback.vendor_task_id, callback.code, callback.message) == ("t1", 200, "done")
        assert callback.count == 1
        assert datetime.fromisoformat(callback.first_at) == AT

    def test_repeated_delivery_only_increases_the_count(self):
        once, _ = record_delivery(None, DONE, AT)

        twice, new = record_delivery(once, Callback("t1", 500, "something else"), AT + timedelta(seconds=9))

        (callback,) = received_callbacks(twice)
        assert not new
        assert (callback.code, callback.message, callback.count) == (200, "done", 2)
        between = datetime.fromisoformat(callback.last_at) - datetime.fromisoformat(callback.first_at)
        assert between == timedelta(seconds=9)

    def test_second_vendor_task_of_an_attempt_is_stored_beside_the_first(self):
        value, _ = record_delivery(None, DONE, AT)

        value, new = record_delivery(value, Callback("t2", 200), AT)

        assert new
        assert [callback.vendor_task_id for callback in received_callbacks(value)] == ["t1", "t2"]

    def test_replayed_deliveries_and_vendor_tasks_are_limited(self):
        value = None
        for _ in range(MAX_DELIVERIES):
            value, _ = record_delivery(value, DONE, AT)
        assert record_delivery(value, DONE, AT) == (None, False)

        for number in range(MAX_TASKS - 1):
            value, _ = record_delivery(value, Callback(f"other-{number}", 200), AT)
        assert record_delivery(value, Callback("one too many", 200), AT) == (None, False)

    def test_message_is_shortened_and_cannot_forge_a_log_line(self):
        value, _ = record_delivery(None, Callback("t1", 500, "bad\nline\x1b[31m" + "x" * 9000), AT)

        (callback,) = received_callbacks(value)
        assert callback.message.startswith("bad line")
        assert callback.message.isprintable()
        assert len(callback.message) == 500


class TestReceivedCallbacks:
    @pytest.mark.parametrize("value", [None, [], "x", {}, [{"something": "else"}], 3.0, [1]])
    def test_foreign_value_counts_as_empty(self, value):
        assert received_callbacks(value) == []


class TestCallbacksByAttempt:
    def test_callbacks_of_a_batch_are_read_by_attempt(self):
        value, _ = record_delivery(None, DONE, AT)

        callbacks = callbacks_by_attempt({"attempt-1": value, "attempt-2": "nonsense"})

        assert [callback.vendor_task_id for callback in callbacks["attempt-1"]] == ["t1"]
        assert callbacks["attempt-2"] == []

    def test_foreign_value_counts_as_empty(self):
        assert callbacks_by_attempt(None) == callbacks_by_attempt([1]) == {}


class TestInboxKey:
    def test_each_attempt_has_its_own_key(self):
        assert inbox_key("a") != inbox_key("b")
        assert inbox_key("a").startswith("vocalsep-callback-")
