"""Orders faults of the simulated Jobcoin network, at its control port."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.runtime.settings import PREFIX
from tellerline.gateway_api import NotReached, Refused
from tellerline.local_stack.supervisor.data_dir import DataDir

CONTROL_URL: Final = f"{PREFIX}NETWORK_CONTROL_URL"
TIMEOUT_S: Final = 10.0
OK: Final = 200


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class OrderedFault(_Answer):
    """A fault by rate, or, without one, of the script."""

    kind: str
    call: str | None
    seconds: tuple[float, float]
    status: int
    rows: int
    rate: float | None = None


class InjectedFault(_Answer):
    """How often a fault happened to a kind of call since the network started."""

    kind: str
    call: str
    count: int


class NetworkFaults(_Answer):
    """The faults of one instance."""

    instance: str
    rates: tuple[OrderedFault, ...]
    script: tuple[OrderedFault, ...]
    injected: tuple[InjectedFault, ...]


class _Error(_Answer):
    error: str


class NetworkControl:
    """Calls the control port of one network. Every method raises Refused or NotReached."""

    def __init__(self, url: str, instance: str) -> None:
        self._url = f"{url.rstrip('/')}/instances/{instance}/faults"

    @classmethod
    def found(cls, url: str | None, data_dir: Path, instance: str) -> "NetworkControl":
        """The network of the option, else of the environment, else of the running stack."""
        if url := url or os.environ.get(CONTROL_URL):
            return cls(url, instance)
        stack = DataDir(data_dir)
        state = stack.read_state()
        if state is None or "jobcoin_control" not in state:
            raise NotReached(f"nothing runs in {stack.path}; give --control-url")
        return cls(str(state["jobcoin_control"]), instance)

    async def faults(self) -> NetworkFaults:
        """What is ordered, and what happened."""
        return await self._call("GET")

    async def put(self, order: Mapping[str, object]) -> NetworkFaults:
        """Replaces the faults. `order`: rates, script and seed."""
        return await self._call("PUT", order)

    async def clear(self) -> NetworkFaults:
        """Ends all faults. The counts stay."""
        return await self._call("DELETE")

    async def _call(self, method: str, order: Mapping[str, object] | None = None) -> NetworkFaults:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(method, self._url, json=order) as answer,
            ):
                text = await answer.text()
            if answer.status != OK:
                raise Refused(_Error.model_validate_json(text).error)
            return NetworkFaults.model_validate_json(text)
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError, ValidationError, ValueError) as fault:
            raise NotReached(
                f"no answer of a network's control port at {self._url} ({type(fault).__name__})"
            ) from fault
