"""What a test knows of a server: addresses, and how to make a room of its own in it."""

import base64
import http.client
import json
import time
from dataclasses import dataclass
from urllib.parse import quote

RABBITMQ_START_MAX_S = 90


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A PostgreSQL with an owner who may do everything."""

    host: str
    port: int
    user: str
    password: str

    def dsn(self, database: str, *, role: str | None = None, password: str | None = None) -> str:
        """A DSN of the owner, or of the login role `tellerline_<role>`."""
        user = f"tellerline_{role}" if role else self.user
        return f"postgresql://{quote(user)}:{quote(password or self.password)}@{self.host}:{self.port}/{database}"


@dataclass(frozen=True, slots=True)
class RabbitServer:
    """A RabbitMQ whose management API answers: a call costs milliseconds, one of its command lines two seconds."""

    host: str
    port: int
    user: str
    password: str
    management_port: int

    def amqp_url(self, vhost: str) -> str:
        """The URL of a virtual host."""
        return f"amqp://{quote(self.user)}:{quote(self.password)}@{self.host}:{self.port}/{quote(vhost, safe='')}"

    def wait_until_it_answers(self) -> None:
        """The management plugin starts last: once it answers, so does everything else. Raises TimeoutError."""
        deadline = time.monotonic() + RABBITMQ_START_MAX_S
        while True:
            try:
                self.call("GET", "/api/overview")
            except (OSError, RuntimeError, http.client.HTTPException) as fault:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"RabbitMQ did not answer within {RABBITMQ_START_MAX_S} s") from fault
                time.sleep(0.2)
            else:
                return

    def make_vhost(self, vhost: str) -> None:
        """An empty virtual host in which our user may do everything."""
        self.call("PUT", f"/api/vhosts/{quote(vhost, safe='')}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call("PUT", f"/api/permissions/{quote(vhost, safe='')}/{quote(self.user)}", everything)

    def drop_vhost(self, vhost: str) -> None:
        """Takes the virtual host away, with its queues and the connections to it."""
        self.call("DELETE", f"/api/vhosts/{quote(vhost, safe='')}")

    def call(self, method: str, path: str, body: object = None) -> object:
        """The management API's answer, parsed. Raises RuntimeError unless it is 2xx."""
        connection = http.client.HTTPConnection(self.host, self.management_port, timeout=30)
        try:
            credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status // 100 != 2:  # the class of success
            raise RuntimeError(f"{method} {path}: {response.status} {text}")
        return json.loads(text) if text else None
