"""A catalogue through the distributed stack without faults."""

from __future__ import annotations


def test_catalogue_lands_over_both_workers_with_callbacks_through_the_proxy(batches):
    run = batches(40)
    run.start(chunk_size=5)

    assert run.wait() == "success"
    run.assert_each_landed_for_one_charge()
    assert run.hosts == {"worker-1", "worker-2"}
    assert run.callbacks()["vocalsep_callback_resumed"] >= 1
    assert run.bed.stack.proxies["receiver"].accepted >= 1
