"""Metadata of accounts: JSON texts, changed by merge patches (RFC 7396)."""

import json
from typing import cast

from shared.domain.metadata import NO_METADATA, canonical_json
from shared.domain.values import value


@value
class KnownMetadata:
    """The metadata of an account as JSON text, None if it never had any. `batch`: the last one that changed it."""

    text: str | None
    batch: int = 0


def merged(text: str | None, patch: str) -> str:
    """The metadata after a merge patch, in canonical form: sorted keys, no spaces."""
    return canonical_json(_merged(json.loads(text or NO_METADATA), json.loads(patch)))


def _merged(target: object, patch: object) -> object:
    if not isinstance(patch, dict):
        return patch
    result = dict(cast("dict[str, object]", target)) if isinstance(target, dict) else {}
    for name, change in cast("dict[str, object]", patch).items():
        if change is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), change)
    return result
