"""A compose file run without Docker: its services as processes on free ports of loopback."""

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
from tests.bed.postgres import DEBIAN_PROGRAMS, as_account, cluster_options, make_cluster

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from tests.bed.compose import ComposeService

#: Seconds that a service has until its health check passes, and that one that is to end has for it.
PATIENCE = 180

#: Images that prepare something before they run the command, by the start of their names.
POSTGRES, SEAWEED = "postgres:", "chrislusf/seaweedfs:"


class NativeStack:
    """
    The services of a compose file as processes.

    What Docker's network does for them, addresses on loopback do: ``name:port`` in a command, variable or health check
    becomes that of a :class:`FaultProxy` before all instances of the service, or of its only instance. Its own ports
    become free ones, volumes folders.

    :param services: The services, see :func:`~tests.bed.compose.load_compose`.
    :param project: Folder of the compose file.
    :param home: Folder for volumes and logs.
    :param proxied: Names, of services and aliases, that are reached through a proxy; those of several instances are
        in any case.
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
        #: Processes by instance: the service's name, with a number where there are several.
        self.instances: dict[str, Service] = {}
        #: Proxies by the name that is reached through them; of a service's first port.
        self.proxies: dict[str, FaultProxy] = {}
        self._project = project
        self._home = home
        self._postgres = Path(tempfile.mkdtemp(prefix="vocalsep-postgres-"))
        self._running = ExitStack()
        self._completed: set[str] = set()
        self._ports: dict[tuple[str, int], int] = {}
        self._inner_ports: list[int] = []
        self._reached: dict[str, int] = {}
        self._take_ports(proxied)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, name: str) -> str:
        """
        Return the address under which the others reach a service.

        :param name: Its name or alias.
        """
        ports = [port for of in self.services.values() if name in (of.name, *of.aliases) for port in of.ports]
        return f"http://{LOOPBACK}:{self._reached[f'{name}:{ports[0]}']}"

    def direct_port(self, instance: str) -> int:
        """
        Return the port of an instance itself, without the proxy.

        :param instance: Its name.
        """
        return next(port for (owner, _), port in self._ports.items() if owner == instance)

    def names(self, service: str) -> list[str]:
        """
        Return the names of a service's instances.

        :param service: The service.
        """
        count = self.services[service].replicas
        return [service] if count == 1 else [f"{service}-{number + 1}" for number in range(count)]

    def up(self, *names: str) -> None:
        """
        Start services, after what they depend on, and wait until those that others need are healthy.

        :param names: Which; those that run are left alone.
        :raises ServiceError: if one does not get there.
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

    def wait_until_healthy(self, *names: str, timeout: float = PATIENCE) -> None:
        """
        Wait until the health checks of services pass.

        :param names: The services.
        :param timeout: Seconds, for each of their instances.
        :raises ServiceError: if one ends, or the time is over.
        """
        for name in names:
            for instance in self.names(name):
                wait_until(
                    lambda instance=instance: self.check(instance).returncode == 0,  # type: ignore[misc]
                    what=f"{instance} to be healthy",
                    timeout=timeout,
                    services=[self.instances[instance]],
                    every=0.2,
                )

    def check(self, instance: str) -> subprocess.CompletedProcess[str]:
        """
        Run the health check of an instance once.

        :param instance: Its name.
        """
        service = self._service_of(instance)
        if service.healthcheck is None:
            raise ServiceError(f"{service.name} has no health check.")
        command = [self._translated(word, service, instance) for word in service.healthcheck]
        return self._run(command, service, instance)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """
        Run a service that ends, and wait for that.

        :param name: The service.
        """
        service = self.services[name]
        return self._run(self._command(service, name), service, name)

    def supervise(self) -> None:
        """Start what has ended again, as ``restart: unless-stopped`` has Docker do."""
        for instance in self.instances.values():
            if not instance.running:
                instance.start()

    def close(self) -> None:
        """Stop everything."""
        try:
            stop_services(list(self.instances.values()))
        finally:
            for proxy in self.proxies.values():
                proxy.close()
            self._running.close()
            remove_sockets([*self._ports.values(), *self._inner_ports])
            shutil.rmtree(self._postgres, ignore_errors=True)

    def _take_ports(self, proxied: Collection[str]) -> None:
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
                    reached = targets[0]
                    if len(targets) > 1 or name in proxied:
                        proxy = FaultProxy(f"{name}:{port}", targets, *quiet_ports(1))
                        self.proxies.setdefault(name, proxy)
                        self._running.enter_context(proxy)
                        reached = proxy.port
                    self._reached[f"{name}:{port}"] = reached

    def _start(self, service: ComposeService) -> None:
        if service.image.startswith(POSTGRES):
            names = service.environment
            make_cluster(self._postgres, user=names["POSTGRES_USER"], database=names["POSTGRES_DB"])
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
            raise ServiceError(f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
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
            timeout=PATIENCE,
            check=False,
        )

    def _service_of(self, instance: str) -> ComposeService:
        return next(service for service in self.services.values() if instance in self.names(service.name))

    def _command(self, service: ComposeService, instance: str) -> list[str]:
        command = [self._translated(word, service, instance) for word in service.command]
        if service.image.startswith(POSTGRES):
            return [*as_account(), *command, *cluster_options(self._postgres)]
        if service.image.startswith(SEAWEED):
            # In a container its other ports disturb nobody.
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
            **{key: self._translated(text, service, instance) for key, text in service.environment.items()},
        }

    def _translated(self, text: str, service: ComposeService, instance: str) -> str:
        for name, port in self._reached.items():
            text = re.sub(rf"(?<![\w-]){re.escape(name)}\b", f"{LOOPBACK}:{port}", text)
        for port in service.ports:
            text = re.sub(rf"\b{port}\b", str(self._ports[instance, port]), text)
        for path, source in service.volumes.items():
            text = re.sub(rf"(?<![\w/.-]){path}(?![\w-])", str(self.volume(source)), text)
        # The host name that Celery puts in is the machine's.
        return text.replace("0.0.0.0", LOOPBACK).replace("@%h", f"@{instance}")

    def volume(self, source: str) -> Path:
        """
        Return the folder of a volume, or of a path of the project.

        :param source: As in the compose file.
        """
        if source.startswith("."):
            return (self._project / source).resolve()
        folder = self._home / "volumes" / source
        folder.mkdir(parents=True, exist_ok=True)
        return folder
