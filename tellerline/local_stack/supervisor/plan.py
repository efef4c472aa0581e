"""Which services a stack runs, at which ports, and in which environment. A service gets only the secrets it needs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.database.migrate import ROLES
from tellerline.local_stack.servers.files import LOOPBACK
from tellerline.local_stack.servers.postgres import PrivatePostgres
from tellerline.local_stack.servers.rabbit import PrivateRabbit
from tellerline.local_stack.supervisor.data_dir import DataDir
from tellerline.local_stack.supervisor.service import FAULT, ServicePlan

INSTANCE = "tellerline"
# Every process of a stack has this variable, so that the processes of a killed supervisor can be found.
MARK = "TELLERLINE_STACK"

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
# The TELLERLINE_… settings that the supervisor itself gives to the services; all others of the caller are passed on.
GIVEN_OUT = frozenset(
    {"DATABASE_URL", "AMQP_URL", "JOBCOIN_URL", "JOBCOIN_DIR", "SECRET", "ADMIN_KEY", "HOST", "PORT", "METRICS_PORT"}
    | {"PARTITIONS", "NAMING_KEY", "SECRET_PREVIOUS", "CONTROL_HOST", "CONTROL_PORT"}
)

# Clients of the worker stop first, so that what is in flight is still answered; the network and the servers last.
TIER_SERVERS, TIER_WORKERS, TIER_CLIENTS = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Options:
    """What `tellerline up` was asked for. Port 0 is a free one, kept in the data dir.

    `partitions`: of a new ledger; an existing one must have as many. None: what it has, one per worker for a new one.
    """

    port: int = 8080
    workers: int = 1
    gateways: int = 1
    admin_key: str | None = None
    partitions: int | None = None


def base_environment(data_dir: DataDir) -> dict[str, str]:
    """What every process of the stack sees."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for name, value in os.environ.items():
        setting = name.removeprefix("TELLERLINE_").removesuffix("_FILE")
        if name.startswith("TELLERLINE_") and setting not in GIVEN_OUT and not setting.startswith("ROLE_PASSWORD_"):
            environment[name] = value
    return environment | {MARK: str(data_dir.path), "PYTHONUNBUFFERED": "1"}


def secrets_environment(data_dir: DataDir) -> dict[str, str]:
    """The ledger's secrets. A secret that was rotated stands in the file of the previous one as long as it is there."""
    naming_key = data_dir.naming_key()
    environment = {"TELLERLINE_NAMING_KEY": naming_key, "TELLERLINE_SECRET": data_dir.secret("signing")}
    if previous := data_dir.previous_secret():
        environment["TELLERLINE_SECRET_PREVIOUS"] = previous
    return environment


def migrate_environment(data_dir: DataDir, owner_dsn: str, amqp_url: str) -> dict[str, str]:
    """What `tellerline migrate` sees."""
    passwords = {f"TELLERLINE_ROLE_PASSWORD_{role.upper()}": data_dir.secret(f"role_{role}") for role in ROLES}
    addresses = {"TELLERLINE_DATABASE_URL": owner_dsn, "TELLERLINE_AMQP_URL": amqp_url}
    environment = base_environment(data_dir) | secrets_environment(data_dir) | passwords | addresses
    environment.pop(FAULT, None)
    return environment


def network_plan(data_dir: DataDir) -> ServicePlan:
    """The simulated Jobcoin network; it needs no server, so it starts beside them."""
    port = data_dir.ports.port("jobcoin_network-1")
    own = {
        "TELLERLINE_HOST": LOOPBACK,
        "TELLERLINE_PORT": str(port),
        "TELLERLINE_CONTROL_HOST": LOOPBACK,
        "TELLERLINE_CONTROL_PORT": str(data_dir.ports.port("jobcoin_network-1-control")),
        "TELLERLINE_JOBCOIN_DIR": str(data_dir.path / "jobcoin_network"),
    }
    environment = base_environment(data_dir) | own
    return ServicePlan("jobcoin_network-1", "services.jobcoin_network", environment, port, TIER_SERVERS, port)


def addresses(
    data_dir: DataDir,
    network: ServicePlan,
    services: Sequence[ServicePlan],
    postgres: PrivatePostgres,
    rabbit: PrivateRabbit,
) -> dict[str, object]:
    """Where everything of a running stack is found, as `tellerline up --json` prints it."""
    gateways = [url_of(plan.port) for plan in services if plan.name.startswith("gateway-")]
    return {
        "gateway": gateways[0] if gateways else None,
        "gateways": gateways,
        "jobcoin": jobcoin_url(network),
        "jobcoin_control": url_of(int(network.environment["TELLERLINE_CONTROL_PORT"])),
        "admin_key": data_dir.admin_key(),
        "amqp": rabbit.url,
        "postgres": postgres.dsn,
        "metrics": {plan.name: f"{url_of(plan.metrics_port)}/metrics" for plan in (*services, network)},
    }


def url_of(port: int) -> str:
    """A service's HTTP address."""
    return f"http://{LOOPBACK}:{port}"


def jobcoin_url(network: ServicePlan) -> str:
    """The base URL of the network's API, in the instance that the stack uses."""
    return f"{url_of(network.port)}/{INSTANCE}/api"


def service_plans(
    options: Options, data_dir: DataDir, network: ServicePlan, postgres: PrivatePostgres, rabbit: PrivateRabbit
) -> Sequence[ServicePlan]:
    """Plans of all services that need the servers; these must be ready, since their addresses are in the plans."""
    ledger = (
        base_environment(data_dir)
        | secrets_environment(data_dir)
        | {
            "TELLERLINE_AMQP_URL": rabbit.url,
            "TELLERLINE_HOST": LOOPBACK,
        }
    )
    jobcoin = {"TELLERLINE_JOBCOIN_URL": jobcoin_url(network)}

    def as_role(role: str) -> dict[str, str]:
        return {"TELLERLINE_DATABASE_URL": postgres.dsn_of(f"tellerline_{role}", data_dir.secret(f"role_{role}"))}

    def plan(kind: str, number: int, tier: int, environment: Mapping[str, str]) -> ServicePlan:
        name = f"{kind}-{number}"
        asked = name == "gateway-1" and options.port != 0
        port = options.port if asked else data_dir.ports.port(name)
        ports = {"TELLERLINE_PORT": port, "TELLERLINE_METRICS_PORT": port}
        if kind == "gateway":
            ports["TELLERLINE_METRICS_PORT"] = data_dir.ports.port(f"{name}-metrics")
        given = {**ledger, **environment, **{setting: str(number) for setting, number in ports.items()}}
        return ServicePlan(name, f"services.{kind}", given, port, tier, ports["TELLERLINE_METRICS_PORT"])

    gateway = as_role("gateway") | {"TELLERLINE_ADMIN_KEY_FILE": str(data_dir.admin_key_file)}
    return [
        *(plan("gateway", n, TIER_CLIENTS, gateway) for n in range(1, options.gateways + 1)),
        *(plan("ledger_worker", n, TIER_WORKERS, as_role("worker")) for n in range(1, options.workers + 1)),
        plan("deposit_poller", 1, TIER_CLIENTS, as_role("poller") | jobcoin),
        plan("distributor", 1, TIER_CLIENTS, as_role("distributor") | jobcoin),
    ]
