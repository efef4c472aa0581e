"""docs/messages says what the messages are."""

import pytest

from shared.messages import CommandEnvelope, MixMessage
from tests.message_schemas import FOLDER, MESSAGES, schema_text
from tests.tree import ROOT


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_a_committed_schema_is_what_its_message_says(name: str) -> None:
    committed = (ROOT / FOLDER / name).read_text(encoding="utf-8")
    assert committed == schema_text(MESSAGES[name]), "run `python -m tests.message_schemas`"


def test_there_is_no_schema_of_a_message_that_is_no_more() -> None:
    assert {path.name for path in (ROOT / FOLDER).glob("*.json")} == set(MESSAGES)


@pytest.mark.parametrize("message", [CommandEnvelope, MixMessage])
def test_what_is_sent_is_closed_and_versioned(message: type[CommandEnvelope | MixMessage]) -> None:
    schema = message.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["v"] == {"const": 1, "default": 1, "title": "V", "type": "integer"}
