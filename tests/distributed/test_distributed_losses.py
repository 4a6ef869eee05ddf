"""A part of the distributed stack is lost during a run: every track lands, and none is paid twice."""

from __future__ import annotations

import shutil
import time

import pytest

pytestmark = pytest.mark.faults


def runs_on(run, host):
    return any(ti["state"] == "running" and ti["hostname"] == host for ti in run.tasks())


def triggers_by_triggerer(run):
    """Return the number of the run's triggers by triggerer job id."""
    return dict(
        run.bed.rows(
            "SELECT t.triggerer_id, count(*) FROM trigger t JOIN task_instance ti ON ti.trigger_id = t.id"
            " WHERE ti.run_id = %s AND t.triggerer_id IS NOT NULL GROUP BY t.triggerer_id",
            run.run_id,
        )
    )


def test_other_triggerer_takes_over_300_waiting_tracks_of_a_killed_one(batches, capsys):
    run = batches(300, slow=True)
    run.start(chunk_size=20, poll_interval=5)
    run.wait_until(lambda: sum(triggers_by_triggerer(run).values()) == 15, what="15 deferred batches")
    triggerers = {job: name for name, job in run.bed.live_triggerers().items()}
    held = triggers_by_triggerer(run)
    assert set(held) == set(triggerers), "one triggerer holds no batch"

    victim = max(held, key=held.__getitem__)
    process = run.bed.stack.instances[triggerers[victim]]
    process.kill()
    killed = time.monotonic()
    # The killed triggerer stays down until the other has taken over. Triggers above its capacity have no
    # owner until then.
    while victim in triggers_by_triggerer(run):
        assert time.monotonic() - killed < 120
        time.sleep(0.5)
    taken_over = time.monotonic() - killed
    while run.states()["success"] < 15:
        assert time.monotonic() - killed < 300, run.states()
        time.sleep(0.5)
    landed = time.monotonic() - killed
    process.start()

    assert run.wait() == "success"
    run.assert_each_landed_for_one_charge()
    with capsys.disabled():
        print(
            f"\n{triggerers[victim]} killed with {held[victim]} of 15 batches, 300 tracks waiting:"
            f" taken over after {taken_over:.0f} s, all landed after {landed:.0f} s, 300 charges"
        )


def test_batches_of_a_killed_worker_land(batches):
    run = batches(80)
    run.start(chunk_size=10)
    run.wait_until(lambda: runs_on(run, "worker-1"), what="a batch on worker-1")

    worker = run.bed.stack.instances["worker-1"]
    worker.kill()
    worker.start()

    assert run.wait() == "success"
    run.assert_each_landed_for_one_charge()
    assert any(ti["try_number"] > 1 for ti in run.tasks()), "no batch was killed"


@pytest.mark.parametrize("keeps", [True, False], ids=["restarted", "lost"])
def test_batches_land_after_redis_is_killed(batches, keeps):
    run = batches(80)
    run.start(chunk_size=5)
    run.wait_until(lambda: run.states()["running"] > 0, what="a running batch")

    redis = run.bed.stack.instances["redis"]
    redis.kill()
    if not keeps:
        data = run.bed.stack.volume("redis")
        shutil.rmtree(data)
        data.mkdir()
    time.sleep(3)
    run.bed.stack.supervise()

    assert run.wait() == "success"
    run.assert_each_landed_for_one_charge()


def test_batches_land_after_an_api_server_is_killed(batches):
    run = batches(40)
    server = run.bed.stack.instances["api-server-1"]
    run.start(chunk_size=10)
    run.wait_until(lambda: run.states()["deferred"] > 0, what="a deferred batch")

    server.kill()
    while run.states()["success"] < 4:
        time.sleep(0.5)
    assert not server.running

    assert run.wait() == "success"
    run.assert_each_landed_for_one_charge()
    assert run.callbacks()["vocalsep_callback_resumed"] >= 1


def test_batches_land_after_the_scheduler_is_killed(batches):
    run = batches(60)
    run.start(chunk_size=10)
    run.wait_until(lambda: run.states()["running"] > 0, what="a running batch")

    scheduler = run.bed.stack.instances["scheduler"]
    scheduler.kill()
    time.sleep(5)
    scheduler.start()

    assert run.wait() == "success"
    run.assert_each_landed_for_one_charge()


def test_batches_land_after_the_database_is_killed(batches):
    run = batches(60)
    run.start(chunk_size=10)
    run.wait_until(lambda: run.states()["running"] > 0, what="a running batch")

    database = run.bed.stack.instances["postgres"]
    database.kill()
    time.sleep(3)
    database.start()

    assert run.wait(timeout=360) == "success"
    run.assert_each_landed_for_one_charge()


@pytest.mark.parametrize("fault", ["cut", "refuse"])
@pytest.mark.parametrize("name", ["quick-sandbox", "s3", "receiver"])
def test_batches_land_after_ten_seconds_without_a_connection(batches, name, fault):
    run = batches(40)
    run.start(chunk_size=10)
    run.wait_until(lambda: run.bed.quick_sandbox.totals()["submits"] > 0, what="the first submit")

    proxy = run.bed.stack.proxies[name]
    getattr(proxy, fault)()
    time.sleep(10)
    proxy.heal()

    assert run.wait() == "success"
    run.assert_each_landed_for_one_charge()


def test_two_concurrent_runs_over_one_catalogue_pay_once(batches):
    runs = [batches(60), batches(60)]
    runs[1].name = runs[0].name
    for run in runs:
        run.start(chunk_size=10)

    assert [run.wait() for run in runs] == ["success", "success"]
    runs[0].assert_each_landed_for_one_charge()
