"""Private servers: a PostgreSQL and a RabbitMQ of one's own, on loopback, with all their state in one folder."""

from tellerline.local_stack.servers.postgres import PrivatePostgres
from tellerline.local_stack.servers.process import StartFailed
from tellerline.local_stack.servers.rabbit import PrivateRabbit

__all__ = ["PrivatePostgres", "PrivateRabbit", "StartFailed"]
