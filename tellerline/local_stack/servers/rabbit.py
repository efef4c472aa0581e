"""A private RabbitMQ node: Debian's package, started by hand; every listener on loopback, all state in one folder."""

import asyncio
import itertools
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tellerline.local_stack.servers.files import LOOPBACK, KeptPorts, kept_secret, private_folder, write_private
from tellerline.local_stack.servers.process import Child, Command, NotInstalled, end_leftovers, processes, until_ready

USER = "tellerline"
VHOST = "tellerline"
NODE = "tellerline@localhost"
# Debian's wrappers in /usr/sbin refuse every user but root and rabbitmq; these do not.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")
PLACES_OF_EPMD = ("/usr/bin/epmd", "/usr/lib/erlang/bin/epmd")
REFUSED_IN_PATHS = re.compile(r"[*?\[\]{}!^\s]")
START_MAX_S = 120.0
EPMD_START_MAX_S = 10.0
STOP_GRACE_S = 30.0
EPMD_STOP_GRACE_S = 5.0
PORTS = ("rabbitmq", "distribution", "epmd", "management")
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"

SETTINGS: Mapping[str, str] = {
    "disk_free_limit.absolute": "50MB",
    "vm_memory_high_watermark.absolute": "512MB",
    # The write-ahead log is in memory too until it is full; half a gigabyte, as by default, would raise the alarm.
    "raft.wal_max_size_bytes": "64000000",
    "log.console.level": "info",
    # Nobody looks at the figures of an idle node every 5 s.
    "collect_statistics_interval": "60000",
}


class PrivateRabbit:
    """One node in one folder. `start` and `stop` may alternate; queues and messages stay.

    `plugins` are enabled; with `rabbitmq_management` among them, `management_port` answers on loopback too.
    """

    name = "rabbitmq"

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        ports: KeptPorts | None = None,
        settings: Mapping[str, str] | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        self._folder = folder.resolve()
        self._log = log or self._folder / "rabbitmq.log"
        self._kept_ports = ports or KeptPorts(self._folder / "ports.json")
        self._settings = settings or {}
        self._plugins = plugins
        self._ports: dict[str, int] = {}
        self._served = False  # from then on others know the ports
        self._node: Child | None = None
        self._epmd: Child | None = None

    @property
    def pids(self) -> Mapping[str, int]:
        """The node's (the Erlang machine itself) and its port mapper's, while they run."""
        named = {self.name: self._node, "epmd": self._epmd}
        return {name: child.pid for name, child in named.items() if child and child.running}

    @property
    def url(self) -> str:
        """The AMQP URL of our user and virtual host. Known once it has been started."""
        return f"amqp://{USER}:{quote(self.password)}@{LOOPBACK}:{self._ports['rabbitmq']}/{VHOST}"

    @property
    def password(self) -> str:
        """Our user's, an administrator of this node."""
        return kept_secret(self._folder / "password")

    @property
    def management_port(self) -> int:
        """Where the plugin rabbitmq_management answers, if it is enabled."""
        return self._ports["management"]

    async def start(self) -> str:
        """Starts it and waits for an AMQP handshake; the URL. Raises StartFailed."""
        epmd = self._check()
        private_folder(self._folder)
        for part in ("home", "data", "etc"):
            private_folder(self._folder / part)
        await self.end_leftovers()
        if not self._served:
            self._ports = {port: self._kept_ports.port(port) for port in PORTS}
        self._configure()
        environment = self.environment()
        # Our own, in the foreground: one that the node starts would outlive it. It is found by its first argument.
        mapper = [str(self._folder / "epmd"), "-port", str(self._ports["epmd"]), "-address", LOOPBACK]
        self._epmd = Child(Command(mapper, environment, self._log, program=epmd, folder=self._folder))
        await until_ready(self._epmd, self._epmd_accepts, "epmd", self._log, EPMD_START_MAX_S)
        node = [str(PROGRAMS / "rabbitmq-server")]
        self._node = Child(Command(node, environment, self._log, folder=self._folder))
        await until_ready(self._node, self._greets, "RabbitMQ", self._log, START_MAX_S)
        self._served = True
        return self.url

    async def ended(self) -> int:
        """Waits until the node ends; as Child.ended."""
        if self._node is None:
            raise RuntimeError("not started")
        return await self._node.ended()

    async def stop(self) -> None:
        """Stops the node cleanly, then its port mapper. Harmless when they do not run."""
        if self._node is not None:
            await self._node.stop(signal.SIGTERM, STOP_GRACE_S)
        if self._epmd is not None:
            await self._epmd.stop(signal.SIGTERM, EPMD_STOP_GRACE_S)

    async def end_leftovers(self) -> int:
        """Stops what an earlier run of this folder left behind; the number of processes."""
        ended = await end_leftovers(self._nodes, signal.SIGTERM, STOP_GRACE_S)
        return ended + await end_leftovers(self._mappers, signal.SIGTERM, EPMD_STOP_GRACE_S)

    def leftovers(self) -> int:
        """How many processes of this folder run, whoever started them."""
        return len([*self._nodes(), *self._mappers()])

    def _nodes(self) -> Iterator[int]:
        home = ("-home", str(self._folder / "home"))
        for pid, line in processes():
            if Path(line[0]).name.startswith("beam") and home in itertools.pairwise(line):
                yield pid

    def _mappers(self) -> Iterator[int]:
        return (pid for pid, line in processes() if line[0] == str(self._folder / "epmd"))

    def _check(self) -> str:
        """The path of epmd. Raises NotInstalled when this machine or folder cannot run a node."""
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise NotInstalled(
                "RabbitMQ is missing: run 'make setup' as root, or 'apt-get install rabbitmq-server', "
                "or use 'docker compose up --build'"
            )
        if REFUSED_IN_PATHS.search(str(self._folder)):
            raise NotInstalled(
                f"RabbitMQ takes no folder with spaces or any of *?[]{{}}!^ in its path, as {self._folder}"
            )
        epmd = shutil.which("epmd") or next((path for path in PLACES_OF_EPMD if Path(path).exists()), None)
        if epmd is None:
            raise NotInstalled("Erlang's epmd is missing: 'apt-get install --reinstall erlang-base'")
        return epmd

    def _configure(self) -> None:
        management = {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(self._ports["management"])}
        settings = {
            "listeners.tcp.1": f"{LOOPBACK}:{self._ports['rabbitmq']}",
            "default_user": USER,
            "default_pass": self.password,
            "default_vhost": VHOST,
            **SETTINGS,
            **(management if "rabbitmq_management" in self._plugins else {}),
            **self._settings,
        }
        etc = self._folder / "etc"
        write_private(etc / "rabbitmq.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()))
        write_private(etc / "enabled_plugins", f"[{','.join(self._plugins)}].\n")
        write_private(etc / "env.conf", "")

    def environment(self) -> dict[str, str]:
        """What the node's programs (`rabbitmqctl` among them) must see to speak of this node and no other."""
        etc, mnesia, home = self._folder / "etc", self._folder / "data", self._folder / "home"
        distribution = self._ports["distribution"]
        flags = (
            # The name given here spares the node two more Erlang machines at its start, 0.7 s.
            f"-sname {NODE} -start_epmd false",
            f"-kernel inet_dist_listen_min {distribution} -kernel inet_dist_listen_max {distribution}",
            "-kernel inet_dist_use_interface {127,0,0,1}",
            # The machine is shared: no busy waiting, and one scheduler. It carries some hundred envelopes a second; a
            # second one only wakes and sleeps (a quarter of the node's CPU).
            "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        )
        return {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(home),  # the Erlang cookie is made here
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self._ports["rabbitmq"]),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": str(etc / "env.conf"),  # or the system's would be read
            "RABBITMQ_CONFIG_FILE": str(etc / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(etc / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(etc / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(mnesia),
            "RABBITMQ_SCHEMA_DIR": str(mnesia / "schema"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(mnesia / "config"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_LOG_BASE": str(mnesia / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(flags),
            # Makes the start script become the node instead of watching over it, so that its pid is the node's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    async def _epmd_accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self._ports["epmd"])
        except OSError:
            return False
        writer.close()
        return True

    async def _greets(self) -> bool:
        """Whether it answers an AMQP header with `connection.start`; its listeners are the last thing to start."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._ports["rabbitmq"])
        except OSError:
            return False
        try:
            writer.write(AMQP_HEADER)
            return await reader.read(1) == METHOD_FRAME
        except OSError:
            return False
        finally:
            writer.close()
