"""What /readyz says of the other services, from what their processes tell in the database."""

import pytest

from services.gateway.store.health import PartitionFacts, ProcessFacts
from services.gateway.usecases.progress import SILENT_S_MAX, deposits_unseen, partitions_missing, services_missing

SERVED = PartitionFacts(0, "w", 1.9, None)
SILENT_S = SILENT_S_MAX + 1


def test_nothing_is_missing_while_every_partition_has_a_worker_that_goes_on() -> None:
    assert partitions_missing([SERVED, PartitionFacts(1, "v", 0.0, None)]) is None


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (PartitionFacts(1, None, None, None), "1: no worker owns it"),
        (PartitionFacts(1, "w", None, None), "1: its worker is gone"),
        (PartitionFacts(1, "w", SILENT_S, None), "1: nothing was heard for 9 s"),
        (PartitionFacts(1, "w", -SILENT_S, None), "1: nothing was heard for 9 s"),
        (PartitionFacts(1, "w", 1, "its queue is not consumed"), "1: its queue is not consumed"),
    ],
)
def test_a_partition_that_nobody_decides_is_named_with_the_reason(facts: PartitionFacts, why: str) -> None:
    assert partitions_missing([SERVED, facts]) == why


def test_partitions_with_the_same_reason_are_named_together() -> None:
    free = [PartitionFacts(number, None, None, None) for number in (1, 2)]
    assert partitions_missing([SERVED, *free, PartitionFacts(3, "w", None, None)]) == (
        "1, 2: no worker owns it; 3: its worker is gone"
    )


def test_a_service_goes_on_as_long_as_one_of_its_processes_does() -> None:
    dead, stuck = ProcessFacts("distributor", SILENT_S, {}), ProcessFacts("distributor", 1, {"journal": "late"})
    alive = ProcessFacts("distributor", 1.5, {})
    assert services_missing([]) == {}
    assert services_missing([dead, stuck, alive]) == {"distributor": None}
    assert services_missing([dead, stuck]) == {"distributor": "journal: late"}
    assert services_missing([dead]) == {"distributor": "nothing was heard for 9 s"}
    assert services_missing([alive, ProcessFacts("deposit_poller", -SILENT_S, {})]) == {
        "deposit_poller": "nothing was heard for 9 s",
        "distributor": None,
    }


def test_deposits_are_unseen_only_if_every_running_poller_says_so() -> None:
    blind = ProcessFacts("deposit_poller", 1.0, {"network": "the list was last read 40 s ago"})
    seeing, silent = ProcessFacts("deposit_poller", 1.0, {}), ProcessFacts("deposit_poller", 60.0, {})
    other = ProcessFacts("distributor", 1.0, {})
    assert deposits_unseen([blind, silent, other]) == "the list was last read 40 s ago"
    assert deposits_unseen([blind, seeing]) is None
    assert deposits_unseen([silent, other]) is None
