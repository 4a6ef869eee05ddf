"""The running Airflow itself, which every other live test needs."""

from __future__ import annotations


class TestStack:
    def test_mapped_tasks_deferred_tasks_and_connections_work(self, run_dag):
        run = run_dag("stack_check")

        assert run.state == "success"
        assert [run.xcom("double", index) for index in range(3)] == [2, 4, 6]
        assert run.xcom("park") == "resumed"
        assert run.xcom("connection_extra") == {"dialect": "sunoapi", "allow_private_hosts": True}

    def test_deferred_task_survives_the_loss_of_its_triggerer(self, airflow):
        airflow.wait_for_dags(["stack_check"])
        run_id = airflow.api.trigger("stack_check")
        airflow.api.wait_for_task("stack_check", run_id, "park", ["deferred"])

        airflow.services["triggerer"].kill()
        assert not airflow.services["triggerer"].running
        airflow.services["triggerer"].start()

        assert airflow.api.wait_for_run("stack_check", run_id) == "success"

    def test_example_dags_have_no_import_error(self, airflow):
        airflow.wait_for_dags(["separate_track", "separate_catalogue"])

        assert airflow.api.import_errors() == []
