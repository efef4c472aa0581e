"""JSON without spaces, for what is ours alone to read: pydantic's serialiser takes a quarter to half of json's time."""

from typing import Final

from pydantic import TypeAdapter

_AS_IT_COMES: Final = TypeAdapter[object](object)


def compact_json(value: object) -> bytes:
    """The value as UTF-8. Raises pydantic's PydanticSerializationError for what JSON does not know."""
    return _AS_IT_COMES.dump_json(value)
