"""The reader of compose files, and what ours must keep."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.bed.compose import ComposeError, load_compose
from tests.bed.distributed import COMPOSE_FILES, PROJECT, SERVICES, new_secrets

COMPOSE, BED = COMPOSE_FILES
TEXT = COMPOSE.read_text()
WHOLE = yaml.safe_load(TEXT)
REQUIRED = set(re.findall(r"\$\{(\w+):\?", TEXT))

#: Run once and end.
ONCE = {"init", "demo"}


@pytest.fixture
def load(tmp_path):
    def load(*texts, **variables):
        paths = [tmp_path / f"{number}.yaml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return load_compose(paths, variables)

    return load


class TestReading:
    def test_all_that_ours_uses(self, load):
        service = load("""
            services:
              one:
                image: some:1
                entrypoint: [run]
                command: --key "${KEY}" --cost 5$$
                environment: {NUMBER: 1, WITH_DEFAULT: "${NOT_SET:-x y}"}
                ports: ["127.0.0.1:80:8080"]
                expose: ["9090"]
                volumes: ["./dags:/srv/dags:ro", "logs:/srv/logs"]
                depends_on: {two: {condition: service_healthy}}
                deploy: {replicas: 2}
                networks: {default: {aliases: [uno]}}
                healthcheck: {test: [CMD-SHELL, "ping $$HOST"]}
            """, KEY="k 1")["one"]  # fmt: skip
        assert service.command == ("run", "--key", "k 1", "--cost", "5$")
        assert service.environment == {"NUMBER": "1", "WITH_DEFAULT": "x y"}
        assert service.ports == (9090, 8080)
        assert service.volumes == {"/srv/dags": "./dags", "/srv/logs": "logs"}
        assert service.depends_on == {"two": "service_healthy"}
        assert (service.replicas, service.aliases) == (2, ("uno",))
        assert service.healthcheck == ("/bin/sh", "-c", "ping $HOST")

    def test_an_override_merges_mappings_adds_volumes_and_replaces_the_rest(self, load):
        base = "services: {one: {image: i, command: a b, environment: {A: 1, B: 2}, volumes: ['x:/x']}}"
        over = "services: {one: {command: [c], environment: {B: 3}, volumes: ['y:/y']}}"
        service = load(base, over)["one"]
        assert service.command == ("c",)
        assert service.environment == {"A": "1", "B": "3"}
        assert service.volumes == {"/x": "x", "/y": "y"}

    @pytest.mark.parametrize("variables", [{}, {"KEY": ""}], ids=["missing", "empty"])
    def test_a_required_variable_is_asked_for_in_the_files_words(self, load, variables):
        with pytest.raises(ComposeError, match="KEY is not set: make one"):
            load("services: {one: {image: i, command: '${KEY:?make one}'}}", **variables)

    def test_a_health_check_of_another_kind_is_refused(self, load):
        with pytest.raises(ComposeError, match="CMD or CMD-SHELL, not NONE"):
            load("services: {one: {image: i, healthcheck: {test: [NONE]}}}")

    def test_an_anonymous_volume_is_refused(self, load):
        with pytest.raises(ComposeError, match="source:/path"):
            load("services: {one: {image: i, volumes: [/data]}}")


class TestOurs:
    @pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
    def test_follows_the_compose_specification(self, path):
        checked = subprocess.run(
            [
                *(sys.executable, "-m", "check_jsonschema"),
                *("--builtin-schema", "vendor.compose-spec", str(path)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout

    def test_says_how_to_get_secrets_where_there_are_none(self):
        with pytest.raises(ComposeError, match=re.escape("run .docker/make-env > .env first")):
            load_compose([COMPOSE], {})

    def test_asks_for_what_make_env_prints_and_it_prints_new_ones(self):
        lines = [
            subprocess.run(
                [PROJECT / ".docker" / "make-env"], capture_output=True, text=True, check=True
            ).stdout
            for _ in range(2)
        ]
        first, second = (dict(line.split("=", 1) for line in text.splitlines()) for text in lines)
        assert set(first) == REQUIRED == set(new_secrets())
        assert not set(first.values()) & set(second.values())
        assert all(len(value) >= 16 for value in first.values())
        assert load_compose([COMPOSE], first)

    def test_has_no_secret_written_in(self):
        for service in WHOLE["services"].values():
            for name, value in service.get("environment", {}).items():
                if re.search(r"password|secret|key(?!_id)", name, re.IGNORECASE):
                    assert str(value).startswith(("${", "/")) or name == "AWS_ACCESS_KEY_ID", name
        assert not re.findall(r'"(?:password|callback_secret)": "(?!\$\{)', TEXT)

    def test_publishes_to_this_machine_only(self):
        published = [port for service in WHOLE["services"].values() for port in service.get("ports", ())]
        assert published
        assert all(port.startswith("127.0.0.1:") for port in published)

    def test_pins_its_images(self):
        images = {service["image"] for service in WHOLE["services"].values()}
        assert all(re.fullmatch(r"[\w./-]+:(\d+\.[\d.]+|local)", image) for image in images), images

    def test_checks_the_health_of_all_that_stays(self):
        services = load_compose([COMPOSE], new_secrets())
        assert {name for name, service in services.items() if service.healthcheck is None} == ONCE
        assert all(
            WHOLE["services"][name]["restart"] == ("no" if name in ONCE else "unless-stopped")
            for name in services
        )
        assert services["triggerer"].replicas == 2

    def test_declares_its_volumes_and_names_only_services_that_are_there(self):
        services = load_compose([COMPOSE], new_secrets())
        named = {source for service in services.values() for source in service.volumes.values()}
        assert {source for source in named if not source.startswith(".")} == set(WHOLE["volumes"])
        for service in services.values():
            assert set(service.depends_on) <= set(services)

    def test_is_run_whole_by_the_bed(self):
        variables = new_secrets()
        services, base = load_compose(COMPOSE_FILES, variables), load_compose([COMPOSE], variables)
        assert set(SERVICES) | ONCE == set(services)
        for name, service in base.items():
            assert services[name].command == service.command
            assert services[name].healthcheck == service.healthcheck

    def test_the_images_recipe_copies_what_is_there(self):
        recipe = (PROJECT / ".docker" / "Dockerfile").read_text()
        copied = [word for line in re.findall(r"^COPY (.+)$", recipe, re.M) for word in line.split()[:-1]]
        ignored = (PROJECT / ".docker" / "Dockerfile.dockerignore").read_text().split()
        assert copied
        for name in copied:
            assert Path(PROJECT, name).exists(), name
            assert f"!{name}" in ignored, name
