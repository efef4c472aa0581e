"""Servers in containers, by testcontainers."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager

# Our containers end with their context; a reaper would be one more image to fetch.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")

from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer

from tests.backends.servers import PostgresServer, RabbitServer

POSTGRES_IMAGE = os.environ.get("TEST_POSTGRES_IMAGE", "postgres:17")
RABBITMQ_IMAGE = os.environ.get("TEST_RABBITMQ_IMAGE", "rabbitmq:4-management")
POSTGRES_PORT, AMQP_PORT, MANAGEMENT_PORT = 5432, 5672, 15672
# Idle schedulers of Erlang spin by default and would eat one of two cores.
ERLANG_ARGUMENTS = "+sbwt none +sbwtdcpu none +sbwtdio none"


class DockerBackend:
    """One container for each server. PostgreSQL's durability is on, over a disk of memory: real code, quick tests."""

    @contextmanager
    def postgres(self) -> Generator[PostgresServer]:
        password = secrets.token_hex(16)
        container = PostgresContainer(
            POSTGRES_IMAGE, username="postgres", password=password, dbname="postgres", driver=None
        )
        container.with_tmpfs_mount("/var/lib/postgresql/data").with_kwargs(shm_size="256m")
        container.with_command("postgres -c max_connections=300")
        with container:
            host, port = container.get_container_host_ip(), int(container.get_exposed_port(POSTGRES_PORT))
            yield PostgresServer(host, port, "postgres", password)

    @contextmanager
    def rabbitmq(self) -> Generator[RabbitServer]:
        user, password = "tests", secrets.token_hex(16)
        container = DockerContainer(RABBITMQ_IMAGE, hostname="rabbitmq").with_exposed_ports(AMQP_PORT, MANAGEMENT_PORT)
        container.with_env("RABBITMQ_DEFAULT_USER", user).with_env("RABBITMQ_DEFAULT_PASS", password)
        container.with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG_ARGUMENTS)
        with container:
            host = container.get_container_host_ip()
            port, management = (int(container.get_exposed_port(each)) for each in (AMQP_PORT, MANAGEMENT_PORT))
            server = RabbitServer(host, port, user, password, management)
            server.wait_until_it_answers()
            yield server
