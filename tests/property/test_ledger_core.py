"""The worker's core against a naive ledger: several lines, every kind of command, credits that cross, return and get stuck."""

import copy
import os
from collections.abc import Sequence

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.ledger_worker.core.accounts import Account, AccountFacts
from services.ledger_worker.core.decide import Asking, Decision, decide, needed_accounts, routed_by
from services.ledger_worker.core.draft import OperationRow
from services.ledger_worker.core.line import InvariantBroken, Known, Line, World
from services.ledger_worker.core.transit import all_can_land, fold_row, landing_accounts, transit_accounts
from services.ledger_worker.owned import Owned
from services.ledger_worker.group import Group
from services.ledger_worker.ports import Lease
from services.ledger_worker.sealing import seal_drafts
from shared.ids import AccountId, AssetCode, CommandId, Partition, Principal, partition_of, system_account, transit_account
from shared.messages import Command, HoldCapture, HoldPlace, HoldVoid, OperationCancel
from shared.rejections import Rejection
from shared.money import AMOUNT_MINOR_MAX, BALANCE_MINOR_MAX
from shared.transit_rows import Credit, decode_credits, encode_credits
from tests.builders import Commands, command_id, fingerprint
from tests.property.naive_ledger import NaiveLedger
from tests.twins.journal import Journal
from tests.twins.proof import prove
from tests.twins.store import MemoryStore

P = 3
CORE = "core"
ASSETS = (AssetCode("USD"), AssetCode("BTC"))
ALICE, BOB, ROOT = Principal("alice"), Principal("bob"), Principal("root")
POOL = [AccountId(f"acc-{number}") for number in range(9)]
ANYWHERE = [*POOL, AccountId("nobody"), *(system_account("world", ASSETS[0], Partition(number)) for number in range(P))]

accounts = st.sampled_from(POOL)
places = st.sampled_from(ANYWHERE)
assets = st.sampled_from((*ASSETS, ASSETS[0], ASSETS[0], AssetCode("NONE")))
principals = st.sampled_from((ALICE, ALICE, BOB, ROOT))
amounts = st.one_of(st.integers(1, 200), st.integers(1, 200), st.sampled_from((10**18, AMOUNT_MINOR_MAX - 1, AMOUNT_MINOR_MAX)))
limits = st.sampled_from((0, 0, 50, 10**20, BALANCE_MINOR_MAX))
keys = st.one_of(st.none(), st.none(), st.integers(0, 5))


class LedgerCore(RuleBasedStateMachine):
    """Rules decide; some commit, with what waits in transit folded in; some fail, and everything is as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 0
        self.journal = Journal(P, lambda: self.now_us)
        for row in self.journal.owners:
            row.owner, row.epoch = CORE, 1
        self.world = World(P, {code: 2 for code in ASSETS})
        self.lines: dict[Partition, Line] = {}
        self.model = NaiveLedger(P, frozenset(ASSETS))
        self.fresh = 0
        self.placed: list[HoldPlace] = []
        self.sent: list[tuple[Partition, Command]] = []
        self._begin_lines()
        self._keep()

    def _begin_lines(self) -> None:
        for partition in map(Partition, range(P)):
            rows = self.journal.batches[partition]
            cursors: dict[Partition, int] = {}
            for source, batch, destination in self.journal.settlements:
                if destination == partition:
                    cursors[Partition(source)] = max(batch, cursors.get(Partition(source), 0))
            self.lines[partition] = Line(self.world, partition, len(rows), cursors, committed=len(rows))

    def _keep(self) -> None:
        self.kept = copy.deepcopy(self.model)

    # What the shell does: load, decide, fold, seal.

    def _load(self, line: Line, wanted: Sequence[AccountId]) -> None:
        store = MemoryStore(self.journal, CORE)
        for account in wanted:
            if account in self.journal.accounts:
                found, partition = store._account(account)
                self.world.facts[account] = AccountFacts(found.asset, found.owner)
                if partition == line.partition:
                    line.accounts.setdefault(account, found)

    def _decide(self, command: Command, partition: Partition | None = None) -> None:
        account = routed_by(command)
        place = partition if account is None else partition_of(account, P)
        line = self.lines[place or Partition(0)]
        self.sent.append((line.partition, command))
        self._load(line, needed_accounts(command))
        if isinstance(command, HoldCapture | HoldVoid | HoldPlace) and command.hold not in line.holds:
            self._load_hold(line, command)
        before = self._picture()
        # What is not in the journal yet is not known in other partitions: the model sees the whole at once.
        hidden = {name for name in needed_accounts(command) if self._is_hidden(line, name)}
        if hidden:
            self.sent.pop()
            return
        decision = decide(line, command, Asking("reply", self.now_us))
        told = decision.code or "posted"
        assert told == self.model.decide(command)
        if told != "posted" or decision.replayed:
            self._check_untouched(before)
        self._check_told(decision)

    def _is_hidden(self, line: Line, name: AccountId) -> bool:
        return (
            partition_of(name, P) != line.partition and name in self.model.accounts
            and not self.model.accounts[name].is_system and name not in self.world.facts
        )

    def _load_hold(self, line: Line, command: HoldCapture | HoldVoid | HoldPlace) -> None:
        row = self.journal.holds.get(command.hold)
        if row is not None:
            run = MemoryStore(self.journal, CORE).holds([command.hold])
            try:
                while True:
                    run.send(None)
            except StopIteration as ended:
                for hold in ended.value:
                    line.holds.setdefault(hold.id, hold)

    def _check_told(self, decision: Decision) -> None:
        for account, balance in decision.balances.items():
            assert balance == self.model.accounts[account].balance

    def _picture(self) -> dict[str, tuple[object, ...]]:
        return {
            account.id: (account.status, account.seq, account.balance, account.held, account.limit)
            for line in self.lines.values() for account in line.accounts.values()
        }

    def _check_untouched(self, before: dict[str, tuple[object, ...]]) -> None:
        after = self._picture()
        assert {name: after[name] for name in before} == before
        assert all(after[name][1:] == (0, 0, 0, 0) for name in after.keys() - before.keys())

    def _fold_waiting(self, rows_max: int) -> None:
        waiting = sorted(
            (destination, source, batch) for source, batch, destination in self.journal.transit
            if (source, batch, destination) not in self.journal.settlements
        )
        for destination, source, batch in waiting[:rows_max]:
            line = self.lines[Partition(destination)]
            credits = decode_credits(self.journal.transit[source, batch, destination])
            self._fold(line, Partition(source), batch, credits)

    def _fold(self, line: Line, source: Partition, batch: int, credits: Sequence[Credit]) -> None:
        self._load(line, sorted(landing_accounts(line, credits)))
        fold_row(line, source, batch, credits)
        self.model.land(source, line.partition, len(credits))

    def _fold_fresh(self) -> None:
        for source in self.lines.values():
            for destination, credits in sorted(source.draft.outgoing.items()) if source.draft else ():
                line = self.lines[destination]
                pair_waits = any(
                    (row[0], row[2]) == (source.partition, destination) and row not in self.journal.settlements
                    and row[1] > line.cursors.get(source.partition, 0) for row in self.journal.transit
                )
                self._load(line, sorted(landing_accounts(line, credits)))
                if not pair_waits and all_can_land(line, credits):
                    assert source.draft is not None
                    self._fold(line, source.partition, source.draft.batch, decode_credits(encode_credits(credits)))

    def _commit(self) -> None:
        for line in self.lines.values():
            self._load(line, transit_accounts(line))
        group = Group()
        leases = {partition: Lease(partition, 1) for partition in self.lines}
        seal_drafts(Owned(self.world, self.lines, leases), group)
        # The twin of the database checks keys, bounds, funds and that each batch sums to zero per asset.
        if group.sealed:
            self.journal.append(CORE, group.sealed)
        for line in self.lines.values():
            line.committed = line.batch
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

    # Rules.

    def _make(self, principal: Principal, asset: AssetCode) -> Commands:
        return Commands(principal, admin=principal == ROOT, asset=asset, partitions=P)

    def _key(self, key: int | None) -> str:
        self.fresh += 1
        self.now_us += 1
        return f"fresh-{self.fresh}" if key is None else f"used-{key}"

    @initialize(limit=limits)
    def some_accounts(self, limit: int) -> None:
        for number, account in enumerate(POOL[:7]):
            make = self._make(BOB if number == 6 else ALICE, ASSETS[1] if number == 5 else ASSETS[0])
            self._decide(make.open(account, overdraft_limit=limit if number == 0 else 0, key=self._key(None)))
            deposit = make.deposit(account, 100 + number, key=self._key(None))
            self._decide(deposit.model_copy(update={"admin": True}))
        self._commit()

    @rule(account=accounts, who=principals, asset=assets, limit=limits, key=keys)
    def open_account(self, account: AccountId, who: Principal, asset: AssetCode, limit: int, key: int | None) -> None:
        self._decide(self._make(who, asset).open(account, overdraft_limit=limit, key=self._key(key)))

    @rule(source=places, destination=places, amount=amounts, who=principals, asset=assets, key=keys)
    def move(
        self, source: AccountId, destination: AccountId, amount: int, who: Principal, asset: AssetCode, key: int | None,
    ) -> None:
        self._decide(self._make(who, asset).move(source, destination, amount, key=self._key(key)))

    @rule(source=accounts, destination=accounts, amount=st.integers(1, 60))
    def move_a_little(self, source: AccountId, destination: AccountId, amount: int) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).move(source, destination, amount, key=self._key(None)))

    @rule(account=accounts, amount=amounts)
    def deposit(self, account: AccountId, amount: int) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).deposit(account, amount, key=self._key(None)))

    @rule(account=accounts, amount=amounts)
    def withdraw(self, account: AccountId, amount: int) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).withdrawal(account, amount, key=self._key(None)))

    @rule(account=accounts, status=st.sampled_from((None, "open", "open", "frozen")), limit=st.one_of(st.none(), limits))
    def change(self, account: AccountId, status: str | None, limit: int | None) -> None:
        command = self._make(ROOT, ASSETS[0]).update(account, overdraft_limit=limit, key=self._key(None))
        self._decide(command.model_copy(update={"status": status}))

    @rule(account=accounts)
    def close(self, account: AccountId) -> None:
        self._decide(self._make(ROOT, ASSETS[0]).close(account, key=self._key(None)))

    @rule(account=accounts)
    def empty_and_close(self, account: AccountId) -> None:
        found = self.model.accounts.get(account)
        if found is not None and 0 < found.balance - found.held <= AMOUNT_MINOR_MAX:
            make = self._make(ROOT, AssetCode(found.asset))
            self._decide(make.withdrawal(account, found.balance, key=self._key(None)))
        self.close(account)

    @rule(source=accounts, destination=accounts, closes_source=st.booleans(), is_seen=st.booleans())
    def cross_to_an_account_that_closes(
        self, source: AccountId, destination: AccountId, closes_source: bool, is_seen: bool,
    ) -> None:
        """The credit meets a closed account; its return may meet one too."""
        sender = self.model.accounts.get(source)
        if sender is None or sender.held or not 0 < sender.balance <= AMOUNT_MINOR_MAX:
            return
        self._decide(self._make(ROOT, ASSETS[0]).move(source, destination, sender.balance, key=self._key(None)))
        if is_seen:
            self._commit()
        self.empty_and_close(destination)
        if closes_source:
            self.close(source)
        self._commit()

    @rule(source=accounts, destination=accounts, slack=st.integers(0, 3), amount=st.integers(1, 5))
    def cross_to_an_account_at_the_bound(self, source: AccountId, destination: AccountId, slack: int, amount: int) -> None:
        self.fill_to_the_bound(destination, slack)
        self._decide(self._make(ROOT, ASSETS[0]).move(source, destination, amount, key=self._key(None)))

    @rule(account=accounts, slack=st.integers(0, 60))
    def fill_to_the_bound(self, account: AccountId, slack: int) -> None:
        """As a million deposits would."""
        found = self.model.accounts.get(account)
        line = self.lines[partition_of(account, P)]
        if found is None or found.status == "closed":
            return
        world = system_account("world", AssetCode(found.asset), line.partition)
        pool = self.model.account(world)
        added = BALANCE_MINOR_MAX - slack - found.balance
        if pool is None or added <= 0 or pool.balance - added < -BALANCE_MINOR_MAX:
            return
        self._load(line, [account, world])
        operation = command_id(self._key(None))
        filled, emptied = line.account(account), line.account(world)
        assert filled is not None
        assert emptied is not None
        draft = line.open_draft()
        draft.enter(emptied, operation, -added)
        draft.enter(filled, operation, added)
        draft.operate(OperationRow(
            operation, "deposit.v1", ROOT, fingerprint(operation), postings=f'[["{world}","{account}","{added}","{found.asset}"]]',
        ))
        found.balance += added
        pool.balance -= added

    @rule(account=accounts, amount=amounts, who=principals, destination=st.one_of(st.none(), accounts), key=keys)
    def place_hold(
        self, account: AccountId, amount: int, who: Principal, destination: AccountId | None, key: int | None,
    ) -> None:
        make = self._make(who, ASSETS[0])
        self.placed.append(make.hold(account, amount, key=self._key(key)))
        self._decide(self.placed[-1])

    @rule(account=accounts, is_kept=st.booleans())
    def place_a_hold_and_end_it_in_one_batch(self, account: AccountId, is_kept: bool) -> None:
        """What is not committed stays in memory, whatever is forgotten."""
        hold = self._make(ROOT, ASSETS[0]).hold(account, 1, key=self._key(None))
        self._decide(hold)
        if not is_kept:
            self.forget_accounts(0)
        self._decide(self._make(ROOT, ASSETS[0]).void(hold, key=self._key(None)))

    @rule(account=accounts, number=st.integers(0, 30))
    def place_a_hold_under_a_used_id(self, account: AccountId, number: int) -> None:
        # In another partition only the database finds it, as a key that is taken.
        placed = [hold for hold in self.placed if partition_of(hold.account, P) == partition_of(account, P)]
        if placed:
            used = placed[number % len(placed)].hold
            self._decide(self._make(ROOT, ASSETS[0]).hold(account, 1, key=self._key(None)).model_copy(update={"hold": used}))

    @rule(number=st.integers(0, 30), destination=places, who=principals)
    def capture(self, number: int, destination: AccountId, who: Principal) -> None:
        if self.placed:
            hold = self.placed[number % len(self.placed)]
            self._decide(self._make(who, ASSETS[0]).capture(hold, destination, key=self._key(None)))

    @rule(number=st.integers(0, 30))
    def void(self, number: int) -> None:
        if self.placed:
            hold = self.placed[number % len(self.placed)]
            self._decide(self._make(ROOT, ASSETS[0]).void(hold, key=self._key(None)))

    @rule(number=st.integers(0, 100))
    def repeat(self, number: int) -> None:
        if self.sent:
            partition, command = self.sent[-1 - number % len(self.sent)]
            self._decide(command, partition)

    @rule(number=st.integers(0, 100), is_known=st.booleans())
    def cancel(self, number: int, is_known: bool) -> None:
        partition, known = self.sent[-1 - number % len(self.sent)] if self.sent else (Partition(0), None)
        make = self._make(ROOT, ASSETS[0])
        identity = known.id if is_known and known is not None else CommandId(command_id(self._key(None)))
        cancel: OperationCancel = make.cancel(identity)
        self._decide(cancel, partition)

    @rule(rows_max=st.integers(0, 5), is_fresh=st.booleans())
    def commit(self, rows_max: int, is_fresh: bool) -> None:
        self._fold_waiting(rows_max)
        if is_fresh:
            self._fold_fresh()
        self._commit()

    @rule()
    def lose_what_is_not_committed(self) -> None:
        self.model = copy.deepcopy(self.kept)
        self.world.recent.clear()
        self.world.recent.update(_known(self.journal))
        self._begin_lines()

    @rule(accounts_max=st.integers(0, 6))
    def forget_accounts(self, accounts_max: int) -> None:
        for line in self.lines.values():
            line.trim(accounts_max)

    # What holds after every step.

    @invariant()
    def accounts_are_as_the_model_says(self) -> None:
        for line in self.lines.values():
            for account in line.accounts.values():
                if not account.id.startswith("transit:"):
                    self._check_account(account)

    def _check_account(self, account: Account) -> None:
        naive = self.model.account(account.id)
        assert naive is not None
        assert (account.balance, account.held, account.limit, account.status) == (
            naive.balance, naive.held, naive.limit, naive.status,
        ), account.id
        held = sum(hold.amount for hold in self.model.holds.values() if hold.is_open and hold.account == account.id)
        assert account.held == held
        assert account.is_system or account.status != "closed" or account.balance == 0

    @invariant()
    def money_is_neither_made_nor_lost(self) -> None:
        for asset in ASSETS:
            total = sum(account.balance for account in self.model.accounts.values() if account.asset == asset)
            crossing = sum(
                credit.amount for credits in self.model.on_their_way.values() for credit in credits if credit.asset == asset
            )
            assert total + crossing == 0

    def teardown(self) -> None:
        self._commit()
        for _ in range(4):  # out, back, to suspense
            self._fold_waiting(10_000)
            self._commit()
        assert prove(self.journal) == 0


def test_a_transit_row_is_folded_once_and_in_order() -> None:
    line = Line(World(P, {ASSETS[0]: 2}), Partition(1), 0, {})
    fold_row(line, Partition(0), 7, [])
    for batch in (7, 6):
        with pytest.raises(InvariantBroken):
            fold_row(line, Partition(0), batch, [])
    fold_row(line, Partition(2), 1, [])
    assert line.cursors == {0: 7, 2: 1}


def _known(journal: Journal) -> dict[str, Known]:
    return {
        identity: Known(str(row["fingerprint"])[2:], None if row["code"] is None else Rejection(row["code"]))
        for identity, row in journal.operations.items()
    }


TestLedgerCore = LedgerCore.TestCase
if os.environ.get("TEST_PROFILE", "quick") == "quick":
    TestLedgerCore.settings = hypothesis.settings(max_examples=400, stateful_step_count=40, deadline=None)
