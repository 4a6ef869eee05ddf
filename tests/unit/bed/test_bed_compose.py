from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.bed.compose import ComposeError, load_compose
from tests.bed.distributed import COMPOSE_FILES, PROJECT, SERVICES, generate_secrets

COMPOSE, BED = COMPOSE_FILES
TEXT = COMPOSE.read_text()
PARSED = yaml.safe_load(TEXT)
REQUIRED = set(re.findall(r"\$\{(\w+):\?", TEXT))

#: Services that run once and end.
ONCE = {"init", "demo"}


@pytest.fixture
def load(tmp_path):
    def load(*texts, **variables):
        paths = [tmp_path / f"{number}.yaml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return load_compose(paths, variables)

    return load


SERVICE = """
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
"""


class TestLoadCompose:
    def test_every_field_of_our_file_is_read(self, load):
        service = load(SERVICE, KEY="k 1")["one"]

        assert service.command == ("run", "--key", "k 1", "--cost", "5$")
        assert service.environment == {"NUMBER": "1", "WITH_DEFAULT": "x y"}
        assert service.ports == (9090, 8080)
        assert service.volumes == {"/srv/dags": "./dags", "/srv/logs": "logs"}
        assert service.depends_on == {"two": "service_healthy"}
        assert (service.replicas, service.aliases) == (2, ("uno",))
        assert service.healthcheck == ("/bin/sh", "-c", "ping $HOST")

    def test_override_merges_mappings_appends_volumes_and_replaces_all_else(self, load):
        base = "services: {one: {image: i, command: a b, environment: {A: 1, B: 2}, volumes: ['x:/x']}}"
        over = "services: {one: {command: [c], environment: {B: 3}, volumes: ['y:/y']}}"

        service = load(base, over)["one"]

        assert service.command == ("c",)
        assert service.environment == {"A": "1", "B": "3"}
        assert service.volumes == {"/x": "x", "/y": "y"}

    @pytest.mark.parametrize("variables", [{}, {"KEY": ""}], ids=["missing", "empty"])
    def test_missing_required_variable_is_an_error_with_the_files_message(self, load, variables):
        with pytest.raises(ComposeError, match="KEY is not set: make one"):
            load("services: {one: {image: i, command: '${KEY:?make one}'}}", **variables)

    def test_health_check_of_another_kind_is_refused(self, load):
        with pytest.raises(ComposeError, match="CMD or CMD-SHELL, not NONE"):
            load("services: {one: {image: i, healthcheck: {test: [NONE]}}}")

    def test_anonymous_volume_is_refused(self, load):
        with pytest.raises(ComposeError, match="source:/path"):
            load("services: {one: {image: i, volumes: [/data]}}")


class TestOurComposeFiles:
    def test_they_follow_the_compose_specification(self):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]

        checked = subprocess.run([*command, *COMPOSE_FILES], capture_output=True, text=True, check=False)

        assert checked.returncode == 0, checked.stdout

    def test_missing_secrets_are_an_error_that_names_make_env(self):
        with pytest.raises(ComposeError, match=re.escape("run .docker/make-env > .env first")):
            load_compose([COMPOSE], {})

    def test_make_env_prints_new_values_for_all_required_variables(self):
        make_env = PROJECT / ".docker" / "make-env"

        texts = [subprocess.check_output([make_env], text=True) for _ in range(2)]

        first, second = (dict(line.split("=", 1) for line in text.splitlines()) for text in texts)
        assert set(first) == REQUIRED == set(generate_secrets())
        assert not set(first.values()) & set(second.values())
        assert all(len(value) >= 16 for value in first.values())
        assert load_compose([COMPOSE], first)

    def test_they_contain_no_secret(self):
        for service in PARSED["services"].values():
            for name, value in service.get("environment", {}).items():
                if re.search(r"password|secret|key(?!_id)", name, re.IGNORECASE):
                    assert str(value).startswith(("${", "/")) or name == "AWS_ACCESS_KEY_ID", name

        assert not re.findall(r'"(?:password|callback_secret)": "(?!\$\{)', TEXT)

    def test_ports_are_published_on_loopback_only(self):
        published = [port for service in PARSED["services"].values() for port in service.get("ports", ())]

        assert published
        assert all(port.startswith("127.0.0.1:") for port in published)

    def test_image_versions_are_pinned(self):
        images = {service["image"] for service in PARSED["services"].values()}

        assert all(re.fullmatch(r"[\w./-]+:(\d+\.[\d.]+|local)", image) for image in images), images

    def test_every_service_that_keeps_running_has_a_health_check_and_restarts(self):
        services = load_compose([COMPOSE], generate_secrets())

        assert {name for name, service in services.items() if service.healthcheck is None} == ONCE
        assert all(
            PARSED["services"][name]["restart"] == ("no" if name in ONCE else "unless-stopped")
            for name in services
        )
        assert services["triggerer"].replicas == 2

    def test_every_named_volume_and_dependency_is_declared(self):
        services = load_compose([COMPOSE], generate_secrets())
        named = {source for service in services.values() for source in service.volumes.values()}

        assert {source for source in named if not source.startswith(".")} == set(PARSED["volumes"])
        for service in services.values():
            assert set(service.depends_on) <= set(services)

    def test_bed_runs_every_service_with_its_own_command_and_health_check(self):
        variables = generate_secrets()

        services, base = load_compose(COMPOSE_FILES, variables), load_compose([COMPOSE], variables)

        assert set(SERVICES) | ONCE == set(services)
        for name, service in base.items():
            assert services[name].command == service.command
            assert services[name].healthcheck == service.healthcheck

    def test_dockerfile_copies_only_existing_files_that_dockerignore_includes(self):
        dockerfile = (PROJECT / ".docker" / "Dockerfile").read_text()
        included = (PROJECT / ".docker" / "Dockerfile.dockerignore").read_text().split()

        copied = [word for line in re.findall(r"^COPY (.+)$", dockerfile, re.M) for word in line.split()[:-1]]

        assert copied
        for name in copied:
            assert Path(PROJECT, name).exists(), name
            assert f"!{name}" in included, name
