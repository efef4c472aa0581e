"""Private servers: a PostgreSQL and a RabbitMQ of one's own, on loopback, with all their state in one folder."""

from tellerline.servers.postgres import PrivatePostgres
from tellerline.servers.process import StartFailed
from tellerline.servers.rabbit import PrivateRabbit

__all__ = ["PrivatePostgres", "PrivateRabbit", "StartFailed"]
