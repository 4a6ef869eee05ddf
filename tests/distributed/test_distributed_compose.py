"""Every service of docker-compose.yaml with the command, variables and health check written there."""

from __future__ import annotations

import pytest

from tests.bed.distributed import BUCKET, SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_running_service_passes_its_health_check(bed, service):
    for instance in bed.stack.names(service):
        checked = bed.stack.check(instance)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("service", ["redis", "sandbox", "worker"])
def test_killed_service_fails_its_health_check(bed, service):
    instance = bed.stack.names(service)[-1]

    bed.stack.instances[instance].kill()

    assert bed.stack.check(instance).returncode != 0


def test_demo_lands_the_sandboxs_songs_and_pays_once(bed):
    first = bed.stack.run("demo")

    assert first.returncode == 0, first.stdout + first.stderr
    assert "Done: 4 of 4 tracks landed as 8 stems" in first.stdout
    assert "4 submits, 40 credits" in first.stdout
    objects = bed.s3.list_objects_v2(Bucket=BUCKET, Prefix="catalogue/")["Contents"]
    assert sum(item["Key"].endswith(".mp3") for item in objects) == 8

    again = bed.stack.run("demo")

    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing was submitted and nothing was paid again" in again.stdout


def test_callbacks_resumed_the_demos_tasks(bed):
    ((resumed,),) = bed.rows(
        "SELECT count(*) FROM log WHERE dag_id = 'separate_catalogue' AND event = 'vocalsep_callback_resumed'"
    )

    assert resumed >= 1
