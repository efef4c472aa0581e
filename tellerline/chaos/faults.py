"""Does to a running stack what the plan says, and undoes it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from shared.database.postgres import TRANSIENT_FAULTS, Connection, connect
from tellerline.chaos.plan import BACKEND, BROKER, DATABASE, GATEWAY, Action, Fault
from tellerline.chaos.stack import Stack
from tellerline.gateway_api import NotReached
from tellerline.local_stack.supervisor.plan import INSTANCE
from tellerline.network_control import NetworkControl

STOPPED_S, RUNNING_S = 0.08, 0.02  # of a slowed process, in turns
TRIES_EVERY_S: Final = 0.2
UNDO_MAX_S: Final = 60.0
ROLES: Final[Mapping[str, str]] = {GATEWAY: "tellerline_gateway", "ledger_worker": "tellerline_worker"}
# The session that does the faults is exempt from those of the whole database.
OWN_SETTINGS: Final = {"default_transaction_read_only": "off", "lock_timeout": "0", "statement_timeout": "0"}

BACKENDS_OF_WORKERS = "SELECT pid FROM pg_stat_activity WHERE usename = 'tellerline_worker'"
ALL_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND ($1::text IS NULL OR usename = $1)
"""
# Half of the calls to a network that misbehaves go wrong. No transfer is answered without being applied: a customer who
# sends until there is an answer could not know.
MISBEHAVIOUR: Final[Sequence[Mapping[str, object]]] = (
    {"kind": "latency", "rate": 0.1, "seconds": (0.2, 3)},
    {"kind": "reset", "rate": 0.05},
    {"kind": "error", "rate": 0.1},
    {"kind": "applied_without_answer", "rate": 0.1, "call": "send"},
    {"kind": "delayed_apply", "rate": 0.05, "call": "send", "seconds": (0.2, 5)},
    {"kind": "html", "rate": 0.04},
    {"kind": "large_body", "rate": 0.03},
    {"kind": "wrong_types", "rate": 0.03},
)
LOCK_JOURNAL = "LOCK TABLE ledger.operations IN SHARE MODE"


class Missed(Exception):
    """The fault could not be done: what it was for is not there at this moment."""


class Faults:
    """`strike` does one fault; it returns when the fault is over and undone."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._doing: Mapping[Action, Callable[[Fault], Awaitable[None]]] = {
            Action.KILL: self._kill,
            Action.TERMINATE: self._terminate,
            Action.STOP: self._stop,
            Action.SLOW: self._slow,
            Action.CUT: self._cut,
            Action.SHUT_OUT: self._shut_out,
            Action.READ_ONLY: self._read_only,
            Action.LOCK: self._lock,
            Action.MISBEHAVE: self._misbehave,
        }

    async def strike(self, fault: Fault) -> None:
        """Raises Missed when the target is down anyway."""
        try:
            await self._doing[fault.kind.action](fault)
        except (*TRANSIENT_FAULTS, ProcessLookupError, NotReached) as error:
            raise Missed(f"{fault.kind.name}: {error!r}") from error

    async def _kill(self, fault: Fault) -> None:
        for pid in await self._pids(fault, one_backend=True):
            os.kill(pid, signal.SIGKILL)

    async def _terminate(self, fault: Fault) -> None:
        for pid in await self._pids(fault):
            os.kill(pid, signal.SIGTERM)

    async def _stop(self, fault: Fault) -> None:
        pids = await self._pids(fault)
        try:
            _signal_all(pids, signal.SIGSTOP)
            await asyncio.sleep(fault.for_s)
        finally:
            _signal_all(pids, signal.SIGCONT)

    async def _slow(self, fault: Fault) -> None:
        pids = await self._pids(fault, all_backends=True)
        until_s = asyncio.get_running_loop().time() + fault.for_s
        try:
            while asyncio.get_running_loop().time() < until_s:
                _signal_all(pids, signal.SIGSTOP)
                await asyncio.sleep(STOPPED_S)
                _signal_all(pids, signal.SIGCONT)
                await asyncio.sleep(RUNNING_S)
        finally:
            _signal_all(pids, signal.SIGCONT)

    async def _cut(self, fault: Fault) -> None:
        if fault.kind.target == BROKER:
            if await self._stack.rabbitmqctl("close_all_connections", "chaos") != 0:
                raise Missed(f"{fault.kind.name}: the node does not answer")
            return
        async with self._session() as session:
            await session.execute(END_SESSIONS, None)

    async def _shut_out(self, fault: Fault) -> None:
        role = ROLES[fault.kind.target]
        try:
            async with self._session() as session:
                await session.execute(f"ALTER ROLE {role} NOLOGIN")
                await session.execute(END_SESSIONS, role)
            await asyncio.sleep(fault.for_s)
        finally:
            await self._undo(f"ALTER ROLE {role} LOGIN")

    async def _read_only(self, fault: Fault) -> None:
        setting = "ALTER DATABASE tellerline SET default_transaction_read_only = "
        try:
            async with self._session() as session:
                await session.execute(setting + "on")
                await session.execute(END_SESSIONS, None)
            await asyncio.sleep(fault.for_s)
        finally:
            await self._undo(setting + "off")

    async def _lock(self, fault: Fault) -> None:
        async with self._session() as session, session.transaction():
            await session.execute(LOCK_JOURNAL)
            await asyncio.sleep(fault.for_s)

    async def _misbehave(self, fault: Fault) -> None:
        control = NetworkControl(self._stack.jobcoin_control, INSTANCE)
        try:
            await control.put({"rates": MISBEHAVIOUR, "seed": int(fault.pick * 1_000_000)})
            await asyncio.sleep(fault.for_s)
        finally:
            # A network that was killed meanwhile has no faults any more.
            with contextlib.suppress(NotReached):
                await control.clear()

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Connection]:
        session = await connect(self._stack.postgres, application="tellerline-chaos", settings=OWN_SETTINGS)
        try:
            yield session
        finally:
            with contextlib.suppress(*TRANSIENT_FAULTS):
                await session.close()

    async def _undo(self, statement: str) -> None:
        """Until it is done: the database may be down. Raises TimeoutError."""
        async with asyncio.timeout(UNDO_MAX_S):
            while True:
                with contextlib.suppress(*TRANSIENT_FAULTS):
                    async with self._session() as session:
                        await session.execute(statement)
                        return
                await asyncio.sleep(TRIES_EVERY_S)

    async def _pids(self, fault: Fault, *, one_backend: bool = False, all_backends: bool = False) -> Sequence[int]:
        """The processes of the target. Raises Missed."""
        target = fault.kind.target
        if target == BACKEND or (target == DATABASE and all_backends):
            async with self._session() as session:
                rows = await session.fetch(ALL_BACKENDS if all_backends else BACKENDS_OF_WORKERS)
            found = sorted(int(row["pid"]) for row in rows)
            several = not one_backend
        else:
            found = self._stack.pids_of(target)
            several = False
        if not found:
            raise Missed(f"{fault.kind.name}: none runs")
        return found if several else [found[min(int(fault.pick * len(found)), len(found) - 1)]]


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
