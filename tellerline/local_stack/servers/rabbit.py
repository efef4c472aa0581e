"""A private RabbitMQ node: Debian's package, started by hand; every listener on loopback, all state in one folder."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tellerline.local_stack.servers.files import LOOPBACK, KeptPorts, kept_secret, private_folder, write_private
from tellerline.local_stack.servers.part import PrivateServer, first_answer
from tellerline.local_stack.servers.process import Child, NotInstalled, processes, until_ready, works_in

USER = "tellerline"
VHOST = "tellerline"
NODE = "tellerline@localhost"
# Debian's wrappers in /usr/sbin refuse every user but root and rabbitmq; these do not.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")
PLACES_OF_EPMD = ("/usr/bin/epmd", "/usr/lib/erlang/bin/epmd")
# The node's own folder, as the node and its children see it. RabbitMQ writes the path of its data into the settings of
# each quorum queue. With the folder's name in it a moved queue would not be found, and a copied one would work in the
# original's folder. It also refuses paths with spaces or brackets, which this name keeps away from it.
OWN_FOLDER = "/proc/self/cwd"
# In the configuration of a quorum queue: a folder an Erlang string, in one piece or several, or a list of numbers.
RAFT_FOLDER = re.compile(r'\b((?:wal_)?data_dir\s*=>\s*)(?:"(?:[^"\\]|\\.)*"(?:\s*"(?:[^"\\]|\\.)*")*|\[[\d,\s]*\])')
START_MAX_S = 120.0
# The node blocks publishers while less is free: room for what is decided after that, and for PostgreSQL to go on.
DISK_FREE_BYTES_MIN = 200_000_000
# Below this a write of its Raft log may have failed.
DISK_FULL_BYTES = 16_000_000
EPMD_START_MAX_S = 10.0
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"
EPMD_NAMES = b"\x00\x01n"  # a request of one byte

SETTINGS: Mapping[str, str] = {
    "disk_free_limit.absolute": str(DISK_FREE_BYTES_MIN),
    "vm_memory_high_watermark.absolute": "512MB",
    # The write-ahead log is also kept in memory until it is full; the default of 512 MB would raise the memory alarm.
    "raft.wal_max_size_bytes": "64000000",
    "log.console.level": "info",
    # The default, 5 s, costs an idle node CPU for figures that nobody reads.
    "collect_statistics_interval": "60000",
}


class PrivateRabbit(PrivateServer):
    """One node (its Erlang VM) and its port mapper epmd, in one folder; queues and messages stay.

    `plugins` are enabled; with `rabbitmq_management` among them, `management_port` answers on loopback too.
    """

    name = "rabbitmq"
    port_names = ("rabbitmq", "distribution", "epmd", "management")

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        ports: KeptPorts | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, log, ports)
        self._plugins = plugins
        self._disk_was_full = False

    @property
    def url(self) -> str:
        """The AMQP URL of our user and virtual host. Known once it has been started."""
        return f"amqp://{USER}:{quote(self.password)}@{LOOPBACK}:{self._ports['rabbitmq']}/{VHOST}"

    @property
    def password(self) -> str:
        """The password of USER, an administrator of this node."""
        return kept_secret(self._folder / "password")

    @property
    def management_port(self) -> int:
        """Where the plugin rabbitmq_management answers, if it is enabled."""
        return self._ports["management"]

    async def start(self) -> str:
        """Starts it and waits for an AMQP handshake; the URL. Raises StartFailed."""
        epmd = self._check()
        await self._prepare()
        for part in ("home", "data", "etc"):
            private_folder(self._folder / part)
        self._configure()
        await asyncio.to_thread(self._move_queues_here)
        environment = self.environment()
        # epmd runs in the foreground: started by the node, it would outlive it. Its first argument identifies it.
        mapper = [str(self._folder / "epmd"), "-port", str(self._ports["epmd"]), "-address", LOOPBACK]
        self._children["epmd"] = Child(mapper, environment, self._log, program=epmd, folder=self._folder)
        await until_ready(self._children["epmd"], self._maps, "epmd", EPMD_START_MAX_S)
        node = Child([str(PROGRAMS / "rabbitmq-server")], environment, self._log, folder=self._folder)
        self._children[self.name] = node
        await until_ready(node, self._greets, "RabbitMQ", START_MAX_S)
        self._served = True
        return self.url

    def end_after_full_disk(self) -> bool:
        """Ends the node if its disk was full and has space again; whether it did. To be called about once a second.

        The Raft log of all queues ends at the first write that fails and does not recover: the node accepts messages,
        confirms none, and does not stop cleanly either. What was confirmed is on disk.
        """
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < DISK_FULL_BYTES:
            self._disk_was_full = True
        if not self._disk_was_full or free_bytes < DISK_FREE_BYTES_MIN or self.name not in self.pids:
            return False
        self._disk_was_full = False
        os.kill(self.pids[self.name], signal.SIGKILL)
        return True

    def _found_by(self) -> Sequence[tuple[Callable[[], Iterator[int]], signal.Signals]]:
        return (self._nodes, signal.SIGTERM), (self._mappers, signal.SIGTERM)

    def _nodes(self) -> Iterator[int]:
        for pid, line in processes():
            if Path(line[0]).name.startswith("beam") and works_in(pid, self._folder):
                yield pid

    def _mappers(self) -> Iterator[int]:
        return (pid for pid, line in processes() if line[0] == str(self._folder / "epmd"))

    def _check(self) -> str:
        """The path of epmd. Raises NotInstalled when this machine cannot run a node."""
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise NotInstalled(
                "RabbitMQ is missing: run 'make setup' as root, or 'apt-get install rabbitmq-server', "
                "or use 'docker compose up --build'"
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
        }
        etc = self._folder / "etc"
        write_private(etc / "rabbitmq.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()))
        write_private(etc / "enabled_plugins", f"[{','.join(self._plugins)}].\n")
        write_private(etc / "env.conf", "")

    def _move_queues_here(self) -> None:
        """Replaces the folders in the queues' configurations that an earlier version wrote with the data dir's name."""
        for path in self._folder.glob("data/*/*/*/*/config"):
            place = f"{OWN_FOLDER}/{path.parent.parent.relative_to(self._folder)}"
            text = path.read_text(encoding="utf-8")
            moved = RAFT_FOLDER.sub(lambda found, place=place: f'{found[1]}"{place}"', text)
            if moved != text:
                write_private(path, moved)

    def environment(self) -> dict[str, str]:
        """The environment with which the node's programs, `rabbitmqctl` among them, work on this node and no other.

        They must be started in its folder.
        """
        etc, mnesia, home = (f"{OWN_FOLDER}/{part}" for part in ("etc", "data", "home"))
        distribution = self._ports["distribution"]
        flags = (
            # With the name given here, the start does without two more Erlang VMs (0.7 s).
            f"-sname {NODE} -start_epmd false",
            f"-kernel inet_dist_listen_min {distribution} -kernel inet_dist_listen_max {distribution}",
            "-kernel inet_dist_use_interface {127,0,0,1}",
            # The machine is shared: no busy waiting, and one scheduler, which is enough for some hundred envelopes a
            # second. A second scheduler would only wake up and sleep (a quarter of the node's CPU).
            "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        )
        return {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": home,  # the Erlang cookie is made here
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self._ports["rabbitmq"]),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": f"{etc}/env.conf",  # or the system's would be read
            "RABBITMQ_CONFIG_FILE": f"{etc}/rabbitmq",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{etc}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{etc}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": mnesia,
            "RABBITMQ_SCHEMA_DIR": f"{mnesia}/schema",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{mnesia}/config",
            "RABBITMQ_PID_FILE": f"{OWN_FOLDER}/pid",
            "RABBITMQ_LOG_BASE": f"{mnesia}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(flags),
            # Makes the start script become the node instead of watching over it, so that its pid is the node's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    async def _maps(self) -> bool:
        """Whether the port mapper tells which nodes it knows."""
        return await first_answer(self._ports["epmd"], EPMD_NAMES) != b""

    async def _greets(self) -> bool:
        """Whether it answers an AMQP header with `connection.start`; its listeners are the last thing to start."""
        return (await first_answer(self._ports["rabbitmq"], AMQP_HEADER)).startswith(METHOD_FRAME)
