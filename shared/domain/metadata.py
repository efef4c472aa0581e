"""Metadata of accounts and operations: a JSON object, kept as text in canonical form."""

import json
from typing import Final

# Of the canonical text.
METADATA_CHARACTERS_MAX: Final = 8_192
# As a merge patch this removes all metadata; in the journal it says that they were removed.
NO_METADATA: Final = "null"


def canonical_json(value: object) -> str:
    """The same JSON text for equal values: sorted keys, no spaces."""
    return _CANONICAL.encode(value)


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
