"""Metadata of accounts: patches merge by RFC 7396, in the order of the partition, whatever is in memory."""

import json

import pytest

from services.ledger_worker.core.metadata import merged
from shared.domain.metadata import METADATA_CHARACTERS_MAX
from tests.property.simulation import Simulation
from tests.unit.ledger_scene import MAKE, Scene, play


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # The appendix of RFC 7396, as far as it speaks of objects.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (None, {"b": 0.1, "a": None}, {"b": 0.1}),
    ],
)
def test_a_patch_merges_as_the_rfc_says(target: object, patch: object, result: object) -> None:
    assert merged(json.dumps(target), json.dumps(patch)) == json.dumps(result, sort_keys=True, separators=(",", ":"))


def test_the_first_patch_of_an_account_without_metadata_makes_it() -> None:
    assert merged(None, '{"b":"é","a":[1,null]}') == '{"a":[1,null],"b":"é"}'


def test_patches_merge_in_order_also_on_top_of_what_is_not_committed_and_after_a_restart() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        for number in range(20):
            it.publish(MAKE.update(it.here, metadata_patch=f'{{"n{number}":{number},"last":{number}}}'))
        await it.settled()
        assert metadata(it, it.here) == {"last": 19} | {f"n{number}": number for number in range(20)}
        [worker] = it.workers
        worker.kill()
        it.start()
        await it.until_done(MAKE.update(it.here, metadata_patch='{"n0":null,"last":null}'))
        assert metadata(it, it.here) == {f"n{number}": number for number in range(1, 20)}
        await it.until_done(MAKE.update(it.here, metadata_patch="null"))
        assert metadata(it, it.here) is None

    play(scene())


def test_metadata_that_would_grow_too_long_is_refused_and_stays_as_it_was() -> None:
    async def scene() -> None:
        it = Scene()
        await it.begin()
        half = "x" * (METADATA_CHARACTERS_MAX // 2)
        await it.until_done(MAKE.update(it.here, metadata_patch=json.dumps({"a": half})))
        refused = MAKE.update(it.here, metadata_patch=json.dumps({"b": half}))
        await it.until_done(refused)
        assert it.code(refused) == "limit_exceeded"
        assert metadata(it, it.here) == {"a": half}

    play(scene())


def metadata(it: Simulation, account: str) -> object:
    rows = {str(name): row for name, row in it.journal.accounts.items()}
    return json.loads(rows[account]["metadata"] or "null")
