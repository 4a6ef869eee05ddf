from __future__ import annotations

import pytest

from airflow_provider_vocalsep.api.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign, verify

# Computed by the documented rule: the vendor's page shows a signature without its key.
VECTORS = [
    (
        "test-webhook-key",
        "3e63b4cc88d52611159371f6af5571e7",
        1769670760,
        "QiVaoUMdBp430hmblmuYLfAvcd2FsHdu/UhR3s6vwQk=",
    ),
    (
        "test-webhook-key",
        "e649edb7abfd759285bd41a47a634b10",
        1769670760,
        "jf4rorMCmoqVtgegdR9HtBlL3o8ZxDgP2rXpEyaUWLs=",
    ),
    (
        "whk_ünïcode",
        "5e72d367bdfbe44785e28d72cb1697c7",
        1700000000,
        "f0Lz+JIcnLer7e6Mp4s1rqm590WmXkZUHB8HhoVpgUM=",
    ),
]
KEY, TASK, AT, SIGNATURE = VECTORS[0]


def test_headers_are_the_documented_ones():
    assert (TIMESTAMP_HEADER, SIGNATURE_HEADER) == ("X-Webhook-Timestamp", "X-Webhook-Signature")


@pytest.mark.parametrize(
    "key, task_id, timestamp, signature", VECTORS, ids=["two stems", "twelve", "utf-8 key"]
)
class TestSign:
    def test_numeric_and_text_timestamps_give_the_expected_signature(
        self, key, task_id, timestamp, signature
    ):
        assert sign(key, task_id, timestamp) == sign(key, task_id, str(timestamp)) == signature

    def test_expected_signature_verifies(self, key, task_id, timestamp, signature):
        assert verify(key, task_id, str(timestamp), signature, now=timestamp)


class TestVerify:
    @pytest.mark.parametrize("off", [-300, -1, 0, 299.9, 300])
    def test_clocks_may_differ_by_five_minutes(self, off):
        assert verify(KEY, TASK, str(AT), SIGNATURE, now=AT + off)

    @pytest.mark.parametrize("off", [-301, 300.5, 86400])
    def test_older_or_future_timestamp_is_refused(self, off):
        assert not verify(KEY, TASK, str(AT), SIGNATURE, now=AT + off)

    def test_tolerance_can_be_changed(self):
        assert not verify(KEY, TASK, str(AT), SIGNATURE, now=AT + 11, tolerance=10)
        assert verify(KEY, TASK, str(AT), SIGNATURE, now=AT + 900, tolerance=1000)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"key": "another-key"}, id="key"),
            pytest.param({"task_id": "e649edb7abfd759285bd41a47a634b10"}, id="task"),
            pytest.param({"timestamp": str(AT + 1)}, id="timestamp"),
            pytest.param({"signature": SIGNATURE[:-2] + "A="}, id="signature"),
            pytest.param({"signature": SIGNATURE.rstrip("=")}, id="padding"),
            pytest.param({"signature": ""}, id="no signature"),
            pytest.param({"signature": "ünïcode"}, id="not ASCII"),
            pytest.param({"signature": "\ud800"}, id="half a surrogate pair as signature"),
            pytest.param({"task_id": "\ud800"}, id="half a surrogate pair as task"),
        ],
    )
    def test_any_changed_value_is_refused(self, change):
        arguments = {"key": KEY, "task_id": TASK, "timestamp": str(AT), "signature": SIGNATURE} | change

        assert not verify(**arguments, now=AT)

    @pytest.mark.parametrize(
        "timestamp",
        ["", "-5", "1e9", "abc", " 1769670760", "١٧٦٩٦٧٠٧٦٠", "9" * 5000, "\ud800"],
        ids=lambda t: ascii(t)[:20],
    )
    def test_timestamp_that_is_not_a_number_is_refused_even_when_signed(self, timestamp):
        assert not verify(KEY, TASK, timestamp, sign(KEY, TASK, timestamp), now=AT)

    def test_empty_key_verifies_nothing(self):
        assert not verify("", TASK, str(AT), sign("", TASK, AT), now=AT)
