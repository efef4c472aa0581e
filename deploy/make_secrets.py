"""Makes what a composed stack must keep secret, once, and gives each service the files that it needs and no others.

`make_secrets.py FOLDER [rotate | forget-previous]`: below it lies one volume for each reader. Run again, it only writes
what is missing. `rotate` makes another signing secret and keeps the present one as the previous one, whose signatures
still verify; `forget-previous` ends that. Until then another `rotate` is refused: after an interrupted one, run it
without a wish.
"""

import json
import os
import re
import secrets
import sys
from pathlib import Path

# As every key that a gateway accepts; this script runs without the code of the services.
KEY_TEXT = re.compile(r"[\x21-\x7e]{16,200}", re.ASCII)
ROLES = ("gateway", "worker", "poller", "distributor", "verify")
DATABASE = "postgres:5432/tellerline"
BROKER = "rabbitmq:5672/"
OWNER = BROKER_USER = "tellerline"


def kept_state(path: Path, *wishes: str) -> dict[str, str]:
    """Every secret by name, made at the first run. An admin key in the environment replaces the kept one."""
    state: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "secret" in state:
        # A ledger that was made before there was a naming key: its ids derive from the secret of that time.
        state.setdefault("naming_key", state["secret"])
    if wishes == ("rotate",):
        if state.get("secret_previous"):  # perhaps of a rotation that was interrupted, whose messages still need it
            sys.exit("make_secrets.py: the previous secret is still in use: go on, or forget-previous before the next")
        state["secret_previous"] = state.pop("secret", "")
    elif wishes == ("forget-previous",):
        state["secret_previous"] = ""
    elif wishes:
        sys.exit(f"make_secrets.py: rotate or forget-previous, not {' '.join(wishes)!r}")
    state.setdefault("secret_previous", "")
    for name in ("owner", "broker", "naming_key", "secret", "admin_key", *(f"role_{role}" for role in ROLES)):
        state.setdefault(name, secrets.token_urlsafe(32))
    if given := os.environ.get("TELLERLINE_ADMIN_KEY"):
        if not KEY_TEXT.fullmatch(given):
            sys.exit("TELLERLINE_ADMIN_KEY: a key has 16 to 200 printable ASCII characters and no space")
        state["admin_key"] = given
    write(path, json.dumps(state), 0o600)
    return state


def write(path: Path, text: str, mode: int) -> None:
    """Replaces the file in one step."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def dsn(user: str, password: str) -> str:
    """Where the ledger is, as that user."""
    return f"postgresql://{user}:{password}@{DATABASE}"


def files_of(state: dict[str, str]) -> dict[str, dict[str, str]]:
    """Reader → name of a file → what it holds."""
    shared = {name: state[name] for name in ("naming_key", "secret", "secret_previous")}
    amqp = {"amqp_url": f"amqp://{BROKER_USER}:{state['broker']}@{BROKER}"}

    def service(role: str, **more: str) -> dict[str, str]:
        return {"database_url": dsn(f"tellerline_{role}", state[f"role_{role}"])} | amqp | more

    return {
        "gateway": service("gateway", **shared, admin_key=state["admin_key"]),
        "worker": service("worker", **shared),
        "poller": service("poller", **shared),
        "distributor": service("distributor", **shared),
        "operator": service("verify"),
        "migrate": {"database_url": dsn(OWNER, state["owner"])}
        | amqp
        | shared
        | {f"role_password_{role}": state[f"role_{role}"] for role in ROLES},
        "postgres": {"password": state["owner"]},
        "rabbitmq": {"password": state["broker"]},
    }


def main() -> None:
    """Writes every file. PostgreSQL and RabbitMQ run as users whose number is not known here: theirs are readable."""
    folder = Path(sys.argv[1])
    for reader, files in files_of(kept_state(folder / "state" / "state.json", *sys.argv[2:])).items():
        for name, text in files.items():
            write(folder / reader / name, text, 0o444 if reader in {"postgres", "rabbitmq"} else 0o400)


if __name__ == "__main__":
    main()
