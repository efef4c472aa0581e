"""The worker's core and a naive ledger, side by side: what a test does to the one it does to the other."""

import copy
from collections.abc import Sequence

from hypothesis.stateful import RuleBasedStateMachine, invariant

from services.ledger_worker.core.accounts import Account, AccountFacts, Status
from services.ledger_worker.core.decide import decide, deciding_account, needed_accounts
from services.ledger_worker.core.outcomes import CommandContext, Decision, KnownOutcome
from services.ledger_worker.core.state import LedgerState, PartitionState
from services.ledger_worker.core.transit import close_transit, landing_accounts, take_in, transit_accounts
from shared.domain.ids import AccountId, AssetCode, Partition, Principal, partition_of, system_account, transit_account
from shared.domain.rejections import Rejection
from shared.journal.transit import TransitCredit, decode_credits
from shared.messages import AccountClose, Command, HoldCapture, HoldPlace, HoldVoid
from tests.builders import Commands
from tests.property.naive_ledger import NaiveLedger
from tests.twins.journal import Journal
from tests.twins.proof import prove
from tests.twins.store import MemoryStore

P = 3
CORE = "core"
ASSETS = (AssetCode("USD"), AssetCode("BTC"))
ALICE, BOB, ROOT = Principal("alice"), Principal("bob"), Principal("root")
POOL = [AccountId(f"acc-{number}") for number in range(9)]
OWN = [system_account(role, ASSETS[0], Partition(number)) for role in ("world", "suspense") for number in range(P)]
ANYWHERE = [*POOL, AccountId("nobody"), *OWN]


class CoreMachine(RuleBasedStateMachine):
    """Does to the core what the engine does, and to the model the same; subclasses say when."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0
        self.journal = Journal(P, lambda: self.now_us)
        for row in self.journal.owners:
            row.owner, row.epoch = CORE, 1
        self.ledger = LedgerState(P, dict.fromkeys(ASSETS, 2))
        self.states: dict[Partition, PartitionState] = {}
        self.model = NaiveLedger(P, frozenset(ASSETS))
        self.fresh = 0
        self.placed: list[HoldPlace] = []
        self.sent: list[tuple[Partition, Command]] = []
        self._begin_states()
        self._keep()

    def _begin_states(self) -> None:
        for partition in map(Partition, range(P)):
            rows = self.journal.batches[partition]
            cursors: dict[Partition, int] = {}
            for source, batch, destination in self.journal.settlements:
                if destination == partition:
                    cursors[Partition(source)] = max(batch, cursors.get(Partition(source), 0))
            self.states[partition] = PartitionState(self.ledger, partition, len(rows), cursors, committed=len(rows))

    def _keep(self) -> None:
        self.kept = copy.deepcopy(self.model)

    # What the engine does: load, decide, take in, seal.

    def _load(self, state: PartitionState, wanted: Sequence[AccountId]) -> None:
        store = MemoryStore(self.journal, CORE)
        for account in wanted:
            is_own = partition_of(account, P) == state.partition
            known = state.accounts if is_own else self.ledger.facts
            if account in known or account not in self.journal.accounts:
                continue
            read = store.account(account)
            if is_own:
                state.accounts[account] = read
            elif not read.is_system:
                self.ledger.facts[account] = AccountFacts(read.asset, read.status is Status.CLOSED)
                self._compare_facts(account)

    def _compare_facts(self, account: AccountId) -> None:
        """Tells the model when the account was closed, and other partitions have not heard of it."""
        facts = self.ledger.facts.get(account)
        if facts is not None and not facts.is_closed and self.model.accounts[account].status == "closed":
            self.model.believed_open.add(account)

    def _decide(self, command: Command, partition: Partition | None = None) -> None:
        account = deciding_account(command)
        place = partition if account is None else partition_of(account, P)
        state = self.states[place or Partition(0)]
        needed = needed_accounts(command)
        self._load(state, needed)
        if isinstance(command, HoldCapture | HoldVoid | HoldPlace) and command.hold not in state.holds:
            self._load_hold(state, command)
        # What is not in the journal yet is not known in other partitions: the model sees the whole at once.
        if any(self._is_hidden(state, name) for name in needed):
            return
        self.sent.append((state.partition, command))
        before = self._accounts_now()
        on_their_way = self._on_their_way()
        decision = decide(state, command, CommandContext("reply", self.now_us))
        told = decision.code or "posted"
        assert told == self.model.decide(command)
        assert len(decision.legs) == self._on_their_way() - on_their_way
        if told != "posted" or decision.replayed:
            self._check_untouched(before)
        self._check_told(command, decision)
        if isinstance(command, AccountClose):
            self._compare_facts(command.account)

    def _on_their_way(self) -> int:
        return sum(map(len, self.model.on_their_way.values()))

    def _is_hidden(self, state: PartitionState, name: AccountId) -> bool:
        return (
            partition_of(name, P) != state.partition
            and name in self.model.accounts
            and not self.model.accounts[name].is_system
            and name not in self.ledger.facts
        )

    def _load_hold(self, state: PartitionState, command: HoldCapture | HoldVoid | HoldPlace) -> None:
        row = self.journal.holds.get(command.hold)
        if row is not None:
            run = MemoryStore(self.journal, CORE).holds([command.hold])
            try:
                while True:
                    run.send(None)
            except StopIteration as ended:
                for hold in ended.value:
                    state.holds.setdefault(hold.id, hold)

    def _check_told(self, command: Command, decision: Decision) -> None:
        for account, balance in decision.balances.items():
            assert balance == self.model.accounts[account].balance
            assert command.admin or self.model.accounts[account].owner == command.principal

    def _accounts_now(self) -> dict[str, tuple[object, ...]]:
        return {
            account.id: (account.status, account.seq, account.balance, account.held, account.limit)
            for state in self.states.values()
            for account in state.accounts.values()
        }

    def _check_untouched(self, before: dict[str, tuple[object, ...]]) -> None:
        after = self._accounts_now()
        assert {name: after[name] for name in before} == before
        assert all(after[name][1:] == (0, 0, 0, 0) for name in after.keys() - before.keys())

    def _take_in_waiting(self, rows_max: int) -> None:
        waiting = sorted(
            (destination, source, batch)
            for source, batch, destination in self.journal.transit
            if (source, batch, destination) not in self.journal.settlements
        )
        for destination, source, batch in waiting[:rows_max]:
            state = self.states[Partition(destination)]
            credits = decode_credits(self.journal.transit[source, batch, destination])
            self._take_in(state, Partition(source), batch, credits)

    def _take_in(self, state: PartitionState, source: Partition, batch: int, credits: Sequence[TransitCredit]) -> None:
        self._load(state, sorted(landing_accounts(state, credits)))
        take_in(state, source, batch, credits)
        self.model.land(source, state.partition, len(credits))

    def _commit(self) -> None:
        for state in self.states.values():
            self._load(state, sorted(transit_accounts(state)))
            close_transit(state)
        sealed = [state.seal(1) for state in self.states.values()]
        # The twin of the database checks keys, bounds, funds and that each batch sums to zero per asset.
        if batches := [batch for batch in sealed if batch is not None]:
            self.journal.append(CORE, batches)
        for state in self.states.values():
            state.committed = state.batch
        self._keep()
        self._check_transit()

    def _check_transit(self) -> None:
        for source in map(Partition, range(P)):
            for destination in map(Partition, range(P)):
                for asset in ASSETS:
                    out = transit_account(asset, destination, "out", source)
                    into = transit_account(asset, source, "in", destination)
                    found = sum(self._last(account, "balance_after") for account in (out, into))
                    assert found == self.model.in_flight(source, destination, asset)

    def _last(self, account: str, column: str) -> int:
        return int(self.journal.entries.get(account, [{}])[-1].get(column) or 0)

    def _make(self, principal: Principal, asset: AssetCode) -> Commands:
        return Commands(principal, admin=principal == ROOT, asset=asset, partitions=P)

    def _key(self, key: int | None) -> str:
        self.fresh += 1
        self.now_us += 1
        return f"fresh-{self.fresh}" if key is None else f"used-{key}"

    # What holds after every step.

    @invariant()
    def accounts_are_as_the_model_says(self) -> None:
        for state in self.states.values():
            for account in state.accounts.values():
                if not account.id.startswith("transit:"):
                    self._check_account(account)

    def _check_account(self, account: Account) -> None:
        naive = self.model.account(account.id)
        assert naive is not None
        assert (account.balance, account.held, account.limit, account.status) == (
            naive.balance,
            naive.held,
            naive.limit,
            naive.status,
        ), account.id
        held = sum(hold.amount for hold in self.model.holds.values() if hold.is_open and hold.account == account.id)
        assert account.held == held
        assert account.is_system or account.status != "closed" or account.balance == 0

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        for asset in ASSETS:
            total = sum(account.balance for account in self.model.accounts.values() if account.asset == asset)
            crossing = sum(
                credit.amount
                for credits in self.model.on_their_way.values()
                for credit in credits
                if credit.asset == asset
            )
            assert total + crossing == 0

    def teardown(self) -> None:
        self._commit()
        for _ in range(4):  # out, back, to suspense
            self._take_in_waiting(10_000)
            self._commit()
        assert prove(self.journal) == 0


def known_operations(journal: Journal) -> dict[str, KnownOutcome]:
    return {
        identity: KnownOutcome(str(row["fingerprint"])[2:], None if row["code"] is None else Rejection(row["code"]))
        for identity, row in journal.operations.items()
    }
