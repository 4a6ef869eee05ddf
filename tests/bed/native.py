"""Runs the services of a compose file without Docker, as processes on free ports of loopback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess  # nosec B404: starts our own servers, no shell
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_vocalsep.demo.ports import LOOPBACK
from airflow_provider_vocalsep.demo.processes import (
    Service,
    ServiceError,
    clean_environment,
    stop_services,
    wait_until,
)
from airflow_provider_vocalsep.demo.seaweed import PORT_OPTIONS, remove_sockets
from tests.bed.fault_proxy import FaultProxy
from tests.bed.ports import quiet_ports
from tests.bed.postgres import DEBIAN_PROGRAMS, account_prefix, cluster_options, create_cluster

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from tests.bed.compose import ComposeService

#: Seconds until a service must be healthy, or a service that runs once must have ended.
TIMEOUT = 180

#: Prefixes of images whose entry point does more than run the command.
POSTGRES, SEAWEED = "postgres:", "chrislusf/seaweedfs:"


class NativeStack:
    """
    The services of a compose file as processes.

    Addresses on loopback replace Docker's network: ``name:port`` in a command, variable or health check
    becomes the address of the service's only instance, or of a :class:`FaultProxy` in front of all its
    instances. Free ports replace a service's own ports, folders its volumes.

    :param services: The services, see :func:`~tests.bed.compose.load_compose`.
    :param project: Folder of the compose file.
    :param home: Folder of volumes and logs.
    :param proxied: Names of services and aliases that are reached through a proxy. Services with several
        instances always are.
    """

    def __init__(
        self,
        services: Mapping[str, ComposeService],
        *,
        project: Path,
        home: Path,
        proxied: Collection[str] = (),
    ) -> None:
        self.services = services
        #: Processes by instance name: the service's name, with a number if it has several instances.
        self.instances: dict[str, Service] = {}
        #: Proxies of each service's first port by service name or alias.
        self.proxies: dict[str, FaultProxy] = {}
        self._project = project
        self._home = home
        self._postgres = Path(tempfile.mkdtemp(prefix="vocalsep-postgres-"))
        self._running = ExitStack()
        self._completed: set[str] = set()
        self._ports: dict[tuple[str, int], int] = {}
        self._inner_ports: list[int] = []
        #: Port of loopback for each ``name:port`` of the compose file.
        self._addresses: dict[str, int] = {}
        self._assign_ports(proxied)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, name: str) -> str:
        """Return the address under which other services reach a service name or alias."""
        ports = [port for of in self.services.values() if name in (of.name, *of.aliases) for port in of.ports]
        return f"http://{LOOPBACK}:{self._addresses[f'{name}:{ports[0]}']}"

    def direct_port(self, instance: str) -> int:
        """Return the port on which an instance itself listens, without the proxy."""
        return next(port for (owner, _), port in self._ports.items() if owner == instance)

    def names(self, service: str) -> list[str]:
        """Return the names of a service's instances."""
        count = self.services[service].replicas
        return [service] if count == 1 else [f"{service}-{number + 1}" for number in range(count)]

    def up(self, *names: str) -> None:
        """
        Start services and their dependencies, and wait for the conditions of the dependencies.

        :param names: Services to start; running ones are skipped.
        :raises ServiceError: a service does not start, end or become healthy as required.
        """
        for name in names:
            service = self.services[name]
            for other, condition in service.depends_on.items():
                if condition == "service_completed_successfully":
                    self._complete(other)
                else:
                    self.up(other)
                if condition == "service_healthy":
                    self.wait_until_healthy(other)
            if self.names(name)[0] not in self.instances:
                self._start(service)

    def wait_until_healthy(self, *names: str, timeout: float = TIMEOUT) -> None:
        """
        Wait until the health checks of services pass.

        :param timeout: Seconds for each instance.
        :raises ServiceError: an instance has ended, or the time-out is over.
        """
        for name in names:
            for instance in self.names(name):
                wait_until(
                    lambda instance=instance: self.check(instance).returncode == 0,  # type: ignore[misc]
                    what=f"a healthy {instance}",
                    timeout=timeout,
                    services=[self.instances[instance]],
                    every=0.2,
                )

    def check(self, instance: str) -> subprocess.CompletedProcess[str]:
        """Run the health check of an instance once."""
        service = self._service_of(instance)
        if service.healthcheck is None:
            raise ServiceError(f"{service.name} has no health check.")
        command = [self._translate(word, service, instance) for word in service.healthcheck]
        return self._run(command, service, instance)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends by itself, and wait for its end."""
        service = self.services[name]
        return self._run(self._command(service, name), service, name)

    def supervise(self) -> None:
        """Start instances that have ended, as Docker does under ``restart: unless-stopped``."""
        for instance in self.instances.values():
            if not instance.running:
                instance.start()

    def restart(self, instance: str) -> None:
        """Stop an instance, if it runs, and start it."""
        self.instances[instance].stop()
        self.instances[instance].start()

    def close(self) -> None:
        """Stop all instances and proxies."""
        try:
            stop_services(list(self.instances.values()))
        finally:
            for proxy in self.proxies.values():
                proxy.close()
            self._running.close()
            remove_sockets([*self._ports.values(), *self._inner_ports])
            shutil.rmtree(self._postgres, ignore_errors=True)

    def _assign_ports(self, proxied: Collection[str]) -> None:
        wanted = [
            (instance, port)
            for service in self.services.values()
            for instance in self.names(service.name)
            for port in service.ports
        ]
        self._ports = dict(zip(wanted, quiet_ports(len(wanted)), strict=True))
        for service in self.services.values():
            for name in (service.name, *service.aliases):
                for port in service.ports:
                    targets = [self._ports[instance, port] for instance in self.names(service.name)]
                    address = targets[0]
                    if len(targets) > 1 or name in proxied:
                        proxy = FaultProxy(f"{name}:{port}", targets, *quiet_ports(1))
                        self.proxies.setdefault(name, proxy)
                        self._running.enter_context(proxy)
                        address = proxy.port
                    self._addresses[f"{name}:{port}"] = address

    def _start(self, service: ComposeService) -> None:
        if service.image.startswith(POSTGRES):
            names = service.environment
            create_cluster(self._postgres, user=names["POSTGRES_USER"], database=names["POSTGRES_DB"])
        for instance in self.names(service.name):
            self.instances[instance] = Service(
                instance,
                self._command(service, instance),
                log_path=self._home / "services" / f"{instance}.log",
                env=self._environment(service, instance),
                grace=5,
            ).start()

    def _complete(self, name: str) -> None:
        if name in self._completed:
            return
        for other in self.services[name].depends_on:
            self.up(other)
            self.wait_until_healthy(other)
        done = self.run(name)
        if done.returncode:
            raise ServiceError(f"{name} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
        self._completed.add(name)

    def _run(
        self, command: list[str], service: ComposeService, instance: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**clean_environment(), **self._environment(service, instance)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def _service_of(self, instance: str) -> ComposeService:
        return next(service for service in self.services.values() if instance in self.names(service.name))

    def _command(self, service: ComposeService, instance: str) -> list[str]:
        command = [self._translate(word, service, instance) for word in service.command]
        if service.image.startswith(POSTGRES):
            return [*account_prefix(), *command, *cluster_options(self._postgres)]
        if service.image.startswith(SEAWEED):
            # Outside a container, the other ports of SeaweedFS could collide with those of other servers.
            options = [o for o in PORT_OPTIONS if not any(word.startswith(f"-{o}=") for word in command)]
            self._inner_ports = quiet_ports(len(options))
            inner = [f"-{o}={port}" for o, port in zip(options, self._inner_ports, strict=True)]
            return [*command, *inner, "-s3.port.iceberg=0", "-s3.port.lance=0"]
        return command

    def _environment(self, service: ComposeService, instance: str) -> dict[str, str]:
        programs = [str(Path(sys.executable).parent), *map(str, Path(DEBIAN_PROGRAMS).glob("*/bin"))]
        private = self._home / "instances" / instance
        private.mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
            "HOSTNAME": instance,
            "HOME": str(private),
            "AIRFLOW_HOME": str(private),
            "PYTHONPATH": str(self._project),  # for tests.bed
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.bed.instance_name.hostname",
            **{key: self._translate(text, service, instance) for key, text in service.environment.items()},
        }

    def _translate(self, text: str, service: ComposeService, instance: str) -> str:
        for name, port in self._addresses.items():
            text = re.sub(rf"(?<![\w-]){re.escape(name)}\b", f"{LOOPBACK}:{port}", text)
        for port in service.ports:
            text = re.sub(rf"\b{port}\b", str(self._ports[instance, port]), text)
        for path, source in service.volumes.items():
            text = re.sub(rf"(?<![\w/.-]){path}(?![\w-])", str(self.volume(source)), text)
        # Celery replaces %h with the machine's host name.
        return text.replace("0.0.0.0", LOOPBACK).replace("@%h", f"@{instance}")

    def volume(self, source: str) -> Path:
        """Return the folder of a volume or of a path of the project, as written in the compose file."""
        if source.startswith("."):
            return (self._project / source).resolve()
        folder = self._home / "volumes" / source
        folder.mkdir(parents=True, exist_ok=True)
        return folder
