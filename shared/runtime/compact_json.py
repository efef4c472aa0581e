"""JSON without spaces. pydantic writes it in a quarter to half of json's time."""

from collections.abc import Callable
from typing import Final

from pydantic import TypeAdapter

# The value as UTF-8. Raises pydantic's PydanticSerializationError for what JSON does not know.
compact_json: Final[Callable[[object], bytes]] = TypeAdapter[object](object).dump_json
