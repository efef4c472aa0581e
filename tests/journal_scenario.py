"""A small ledger in which everything happens that a journal can hold: `verify` passes it, tests tamper with it."""

from dataclasses import dataclass, field

from shared.domain.ids import AccountId
from tests.builders import Commands, account_in
from tests.journal_writer import JournalWriter


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who lives where: alice and bob in partition 0, carol and erin in 1, dave in 2; nobody in 3."""

    alice: AccountId = field(default_factory=lambda: account_in(0, prefix="alice"))
    bob: AccountId = field(default_factory=lambda: account_in(0, prefix="bob"))
    carol: AccountId = field(default_factory=lambda: account_in(1, prefix="carol"))
    erin: AccountId = field(default_factory=lambda: account_in(1, prefix="erin"))
    dave: AccountId = field(default_factory=lambda: account_in(2, prefix="dave"))
    commands: Commands = field(default_factory=Commands)

    async def write(self, writer: JournalWriter) -> None:
        """Leaves one hold of alice open, one credit of alice to carol unsettled, and 40 of dave's on suspense."""
        make = self.commands
        await writer.write(*(make.open(who) for who in (self.alice, self.bob, self.dave, self.erin)))
        opened = make.open(self.carol, overdraft_limit=500).model_copy(update={"metadata": '{"tab":"\\t","nl":"\n"}'})
        await writer.write(opened, make.asset_create("GOLD", 3))
        await writer.write(make.deposit(self.alice, 100_000))
        refused = make.transfer(self.bob, self.alice, 5_000)
        sent = await writer.write(
            make.transfer(self.alice, self.bob, 1_000), make.transfer(self.alice, self.carol, 2_000), refused
        )
        _expect([decision.code is None for decision in sent] == [True, True, False])
        await writer.settle()
        await self._return_a_credit(writer)
        await self._hold(writer)
        await self._change(writer)
        await writer.write(make.transfer(self.dave, self.alice, 35))
        await writer.settle()
        await writer.write(make.transfer(self.alice, self.dave, 40))
        await writer.settle(aside=True)
        await writer.write(make.withdrawal(self.bob, 100), make.cancel(make.ids.fresh(make.principal)))
        await writer.write(make.transfer(self.alice, self.carol, 60))

    async def _return_a_credit(self, writer: JournalWriter) -> None:
        """Erin's account closes while a credit is on its way to it."""
        await writer.write(self.commands.transfer(self.alice, self.erin, 700))
        await writer.write(self.commands.close(self.erin))
        _expect(await writer.settle() == 1)
        _expect(await writer.settle() == 1)

    async def _hold(self, writer: JournalWriter) -> None:
        captured, voided, kept = (self.commands.hold(self.alice, amount) for amount in (500, 300, 200))
        await writer.write(captured, voided, kept)
        await writer.write(self.commands.capture(captured, self.dave), self.commands.void(voided))
        await writer.settle()

    async def _change(self, writer: JournalWriter) -> None:
        """Carol is frozen and opened again, and spends what she may overdraw."""
        make = self.commands
        await writer.write(make.update(self.carol, status="frozen"))
        again = make.update(self.carol, status="open", overdraft_limit=800)
        await writer.write(again.model_copy(update={"metadata": '{"second":true}'}))
        spent = await writer.write(make.transfer(self.carol, self.erin, 1), make.withdrawal(self.carol, 2_400))
        _expect([decision.code is None for decision in spent] == [False, True])


def _expect(held: bool) -> None:
    if not held:
        raise RuntimeError("the scenario is not what it says")
