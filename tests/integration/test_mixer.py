"""The mixer from an order to the last payout, on real parts."""

import asyncio

from shared.broker.connection import connect_aio_pika
from shared.domain.ids import AccountId, Partition, partition_of
from shared.domain.rejections import Rejection
from shared.messages import AccountCreate, MixCreate, OperationCancel
from shared.messages.topology import DEAD_LETTERS_QUEUE
from shared.mixer.ledger import JOB as JOB_CODE
from shared.runtime.fault_points import FaultPoint
from tests.builders import fingerprint
from tests.integration.mixer import CUSTOMER, HOUSE, mixer_scene
from tests.integration.mixer_stage import Stage

JOB = 10**18


async def test_a_deposit_is_swept_credited_and_paid_out_in_increments_that_add_up(mixer: Stage) -> None:
    mixer.start("deposit_poller")
    mixer.start("distributor")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna", "bert", fee_ppm=10_000)
        assert (await here.head(mix)).status == "waiting"
        await here.pay(address, "37.5")
        await here.until_completed(mix)
        head = await here.head(mix)
        assert (head.received, head.fee) == (37 * JOB + JOB // 2, 375 * JOB // 1000)
        await here.prove_completed(mix, ["anna", "bert"])
        payouts = await here.owner.fetch("SELECT * FROM payouts.payout_heads WHERE mix_id = $1", mix)
        assert len(payouts) >= 4
        assert {row["destination"] for row in payouts} == {"anna", "bert"}
        assert {row["status"] for row in payouts} == {"paid"}
        assert await here.balance(HOUSE) == "0.375"


async def test_deposits_that_nobody_was_there_to_see_are_found_and_twins_are_told_apart(mixer: Stage) -> None:
    poller = mixer.start("deposit_poller")
    async with mixer_scene(mixer) as here:
        mix, address = await here.mix("anna")
        assert poller.stop() == 0
        for coins in ("5", "5", "5.0", "0.25"):
            await here.pay(address, coins)
        mixer.start("deposit_poller")
        distributor = mixer.start("distributor")
        await here.until_completed(mix)
        assert (await here.head(mix)).received == 15 * JOB + JOB // 4
        await here.prove_completed(mix, ["anna"])
        # A mix is never closed: what comes later is paid on as well.
        await here.pay(address, "1.5")
        await here.until_received(mix, 16 * JOB + 3 * JOB // 4)
        await here.until_completed(mix)
        await here.prove_completed(mix, ["anna"])
        assert distributor.stop() == 0


async def test_a_clean_stop_lets_go_of_what_is_under_way(mixer: Stage) -> None:
    """Claims of a day: were one left behind, nobody would take it up within this test."""
    settings = {"TELLERLINE_CLAIM_S": "86400"}
    poller = mixer.start("deposit_poller", settings=settings)
    distributor = mixer.start("distributor", settings=settings)
    async with mixer_scene(mixer) as here:
        mixes = [await here.mix(f"receiver-{number}", delay_ms_max=2_000) for number in range(4)]
        for _, address in mixes:
            await here.pay(address, "5")
        for _ in range(3):
            await asyncio.sleep(0.3)
            assert (poller.stop(), distributor.stop()) == (0, 0)
            poller = await asyncio.to_thread(mixer.start, "deposit_poller", settings=settings)
            distributor = await asyncio.to_thread(mixer.start, "distributor", settings=settings)
        for mix, _ in mixes:
            await here.until_received(mix, 5 * JOB)
        await here.until_completed(*(mix for mix, _ in mixes))
        for number, (mix, _) in enumerate(mixes):
            await here.prove_completed(mix, [f"receiver-{number}"])


async def test_each_address_that_cannot_be_paid_to_is_refused_with_its_reason(mixer: Stage) -> None:
    mixer.start("deposit_poller")
    async with mixer_scene(mixer) as here:
        _, ours = await here.mix("anna")
        one_shot = "pay-00000000-0000-4000-8000-000000000000"
        order = here.order("bert", "Alice", "bert", "", "é" * 2049, "a/b", HOUSE, ours, one_shot, "\x00", key="bad")
        outcome = await here.send(order)
        assert (outcome.status, outcome.code) == ("rejected", Rejection.ADDRESS_REFUSED)
        assert {error.field: error.message for error in outcome.errors} == {
            "destinations[1]": "the address was used before",
            "destinations[2]": "the address stands here twice",
            "destinations[3]": "the address is empty",
            "destinations[4]": "an address has at most 4,096 bytes of UTF-8",
            "destinations[6]": "the address is one of ours",
            "destinations[7]": "the address is one of ours",
            "destinations[8]": "the address is one of ours",
            "destinations[9]": "an address has no U+0000",
        }
        repeated = await here.send(order)
        assert repeated.replayed
        assert (repeated.code, repeated.errors) == (outcome.code, outcome.errors)


async def test_an_order_has_one_outcome_whatever_is_sent_again(mixer: Stage) -> None:
    mixer.start("deposit_poller")
    mixer.start("deposit_poller")
    async with mixer_scene(mixer) as here:
        order = here.order("anna", key="one")
        async with mixer_scene(mixer) as there:
            outcomes = await asyncio.gather(*(each.send(order) for each in (here, there)))
        assert {outcome.status for outcome in outcomes} == {"posted"}
        other = await here.send(here.order("bert", key="one"))
        assert other.code is Rejection.IDEMPOTENCY_KEY_REUSED
        late = await here.client.call(cancelling(order), Partition(0), 10)
        assert late is not None
        assert (late.outcome.status, late.outcome.replayed) == ("posted", True)
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.mix_heads") == 1
        accounts = await here.owner.fetchval("SELECT count(*) FROM ledger.accounts WHERE id LIKE 'mix:%'")
        assert accounts == 1


def cancelling(order: MixCreate) -> OperationCancel:
    return OperationCancel(id=order.id, principal=CUSTOMER, fingerprint=fingerprint("cancel"), repeat=True)


async def test_mixes_and_the_ledger_share_one_space_of_keys(mixer: Stage) -> None:
    mixer.start("deposit_poller")
    async with mixer_scene(mixer) as here:
        cancelled, used, made = (here.order("anna", key=key) for key in ("cancelled", "used", "made"))
        assert (await here.send(made)).status == "posted"
        others = [cancelling(cancelled), *(opening(order) for order in (used, made))]
        told = [await here.client.call(command, partition_of(AccountId("a"), 4), 10) for command in others]
        codes = [answer and answer.outcome.code for answer in told]
        assert codes == [Rejection.CANCELLED, None, Rejection.IDEMPOTENCY_KEY_REUSED]
        assert (await here.send(cancelled)).code is Rejection.CANCELLED
        assert (await here.send(used)).code is Rejection.IDEMPOTENCY_KEY_REUSED
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.mix_heads") == 1


def opening(order: MixCreate) -> AccountCreate:
    """Another use of the order's key."""
    return AccountCreate(
        id=order.id,
        principal=CUSTOMER,
        fingerprint=fingerprint("something else"),
        account=AccountId("a"),
        asset=JOB_CODE,
        owner=CUSTOMER,
    )


async def test_of_two_orders_with_one_key_the_first_one_that_was_written_wins(mixer: Stage) -> None:
    dying = mixer.start("deposit_poller", fault=f"{FaultPoint.POLLER_AFTER_ORDER_WRITTEN}:1")
    async with mixer_scene(mixer) as here, mixer_scene(mixer) as there, asyncio.TaskGroup() as group:
        first, second = here.order("anna", key="one"), here.order("bert", key="one")
        waiting = group.create_task(here.send(first, 60))
        await asyncio.to_thread(dying.wait_killed)
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.mixes") == 1
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.mix_heads") == 0
        mixer.start("deposit_poller")
        assert (await there.send(second, 60)).code is Rejection.IDEMPOTENCY_KEY_REUSED
        assert (await waiting).status == "posted"
        assert await here.owner.fetchval("SELECT destinations FROM mixer.mix_heads") == ["anna"]


async def test_an_order_whose_key_was_used_while_its_poller_was_away_makes_no_mix(mixer: Stage) -> None:
    dying = mixer.start("deposit_poller", fault=f"{FaultPoint.POLLER_AFTER_ORDER_WRITTEN}:1")
    async with mixer_scene(mixer) as here, asyncio.TaskGroup() as group:
        order = here.order("anna", key="one")
        waiting = group.create_task(here.send(order, 60))
        await asyncio.to_thread(dying.wait_killed)
        used = await here.client.call(opening(order), partition_of(AccountId("a"), 4), 10)
        assert used is not None
        assert used.outcome.status == "posted"
        mixer.start("deposit_poller")
        assert (await waiting).code is Rejection.IDEMPOTENCY_KEY_REUSED
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.mixes") == 1
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.mix_heads") == 0


async def test_a_message_that_is_no_order_of_ours_becomes_a_dead_letter(mixer: Stage) -> None:
    mixer.start("deposit_poller")
    async with mixer_scene(mixer) as here, mixer_scene(mixer, secret="another secret of thirty-two chars") as forger:
        sent = forger.client.send_order(here.order("anna"))
        assert await forger.client.result(sent, 1.0) is None
        assert (await here.send(here.order("bert"))).status == "posted"
        assert await here.owner.fetchval("SELECT count(*) FROM mixer.mixes") == 1
        connection = await connect_aio_pika(mixer.amqp, name="auditor")
        async with connection:
            queue = await (await connection.channel()).get_queue(DEAD_LETTERS_QUEUE)
            dead_letter = await queue.get()
            assert dead_letter is not None
            assert dead_letter.headers["x-original-key"] == "mix"
            await dead_letter.nack()


async def test_several_pollers_and_distributors_pay_each_mix_once(mixer: Stage) -> None:
    for service in ("deposit_poller", "distributor"):
        mixer.start(service)
        mixer.start(service)
    async with mixer_scene(mixer) as here:
        mixes = [await here.mix(f"receiver-{number}", f"another-{number}") for number in range(8)]
        for _, address in mixes:
            await here.pay(address, "3.125")
            await here.pay(address, "0.7")
        for mix, _ in mixes:
            await here.until_received(mix, 3825 * JOB // 1000)
        await here.until_completed(*(mix for mix, _ in mixes))
        for number, (mix, _) in enumerate(mixes):
            await here.prove_completed(mix, [f"receiver-{number}", f"another-{number}"])
