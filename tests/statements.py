"""Every SQL statement of the product, by the module and name of its constant."""

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import services
import shared
import tellerline
from services.deposit_poller.store.sweeps import SweepStore
from services.distributor.store.credits import CreditStore
from services.distributor.store.payouts import PayoutStore
from shared.mixer.store import ClaimStore, IntentStore

STATEMENT: Final = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH)\b")
# A command of each table whose attempts are counted.
ATTEMPTS_OF: Final = {"mixer.sweeps": "credit", "payouts.credits": "fee", "payouts.payouts": "hold"}
STORES: Final[Sequence[type[ClaimStore[Any]]]] = (SweepStore, CreditStore, PayoutStore)


def constants() -> Iterator[tuple[str, str]]:
    """Name and text of every SQL statement that is a public constant of a module which defines it."""
    for package in (services, shared, tellerline):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                is_defined_here = re.search(rf"^{name}\b.*=", source(found.name), re.MULTILINE) is not None
                if isinstance(value, str) and STATEMENT.match(value) and is_defined_here and not name.startswith("_"):
                    yield f"{found.name}.{name}", value


@cache
def source(module: str) -> str:
    """The module's text."""
    return Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")


def written_out(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The statement, or what becomes of a template for each table."""
    if "{of." not in text:
        yield name, text
        return
    for store in STORES:
        if "{of.intents}" in text and not issubclass(store, IntentStore):
            continue
        yield f"{name}@{store.table}", store.sql(text, ATTEMPTS_OF[store.table])


STATEMENTS: Final[Mapping[str, str]] = dict(
    written for name, text in constants() for written in written_out(name, text)
)
