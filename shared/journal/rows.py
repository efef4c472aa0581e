"""The canonical form of what a batch writes: lines of PostgreSQL's COPY text format, and the hash over them.

The worker sends these very lines to the database and hashes them; `verify` gets them back with COPY TO and hashes
them again. The format escapes tab, newline and backslash, so two different batches never have the same bytes.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from shared.runtime.compact_json import compact_json

# Table → columns, in the order of the hash. Left out: accounts.status and .metadata, which repeat what entries and
# operations say, and the table assets, since the operation that adds an asset holds its content as metadata.
HASHED_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": ("id", "asset", "owner", "partition", "batch"),
    "operations": (
        "id",
        "partition",
        "batch",
        "line",
        "kind",
        "principal",
        "fingerprint",
        "outcome",
        "code",
        "detail",
        "postings",
        "subject",
        "reference",
        "metadata",
    ),
    "entries": (
        "account_id",
        "seq",
        "operation_id",
        "asset",
        "delta",
        "held_delta",
        "balance_after",
        "held_after",
        "limit_after",
        "status_after",
        "partition",
        "batch",
        "line",
    ),
    "transit": ("source", "batch", "destination", "credits"),
    "settlements": ("source", "source_batch", "destination", "batch"),
    "holds": (
        "id",
        "account_id",
        "asset",
        "amount",
        "destination",
        "operation_id",
        "expires_at_us",
        "partition",
        "batch",
    ),
    "hold_ends": ("hold_id", "ended", "operation_id", "partition", "batch"),
}
# The order of a table's lines within one batch. Text compares by its bytes (COLLATE "C").
LINE_ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": ("id",),
    "operations": ("line",),
    "entries": ("line",),
    "transit": ("destination",),
    "settlements": ("source", "source_batch"),
    "holds": ("id",),
    "hold_ends": ("hold_id",),
}
# Table → the columns with the partition and the number of the batch that wrote a row.
PLACE: Final[Mapping[str, tuple[str, str]]] = {
    table: {"transit": ("source", "batch"), "settlements": ("destination", "batch")}.get(table, ("partition", "batch"))
    for table in HASHED_COLUMNS
}
# Entries of an account up to this number are read one by one; later ones go into its list of ledger.listed as well.
ENTRIES_UNLISTED: Final = 1_000
GENESIS_HASH: Final = bytes(32)
# The fingerprint of a cancelled operation. It matches any content, so whatever is sent under its id is a repeat.
ANY_CONTENT_FINGERPRINT: Final = "0" * 32

_ESCAPES: Final = str.maketrans(
    {
        "\\": "\\\\",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
    }
)
NULL: Final = "\\N"


def copy_text(value: str | None) -> str:
    """A text value as COPY writes it. NUL cannot be stored by PostgreSQL and must have been refused before."""
    if value is None:
        return NULL
    # Shortcut: every character that needs an escape is a backslash or not printable.
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def copy_line(*fields: str | None) -> str:
    """One line of COPY text."""
    return (
        "\t".join(
            [
                NULL if field is None else field if field.isprintable() and "\\" not in field else copy_text(field)
                for field in fields
            ]
        )
        + "\n"
    )


_UNESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


def copy_fields(line: str) -> list[str | None]:
    """The fields of one line of COPY text: the inverse of writing them with `copy_text`."""
    fields = line.removesuffix("\n").split("\t")
    if "\\" not in line:
        return list[str | None](fields)
    return [None if field == NULL else _ESCAPE.sub(_unescape, field) if "\\" in field else field for field in fields]


def _unescape(match: re.Match[str]) -> str:
    return _UNESCAPES.get(match[1], match[1])


# Besides `\v`, what COPY text may hold but JSON may not: control characters other than the separators tab and newline.
_NOT_JSON: Final = bytes({*range(32)} - {*b"\t\n"})


def json_rows(lines: Sequence[str]) -> str:
    """The fields of each line as JSON: an array of arrays of strings, null for what is null.

    Both formats use nearly the same escapes, so a few replacements over the whole text suffice, which takes a quarter
    of the time of parsing each line.
    """
    text = "".join(lines)
    if not text:
        return "[]"
    raw = text.encode()
    if "\\v" in text or len(raw.translate(None, _NOT_JSON)) != len(raw):
        return compact_json([copy_fields(line) for line in lines]).decode()
    strings = text[:-1].replace('"', '\\"').replace("\t", '","').replace("\n", '"],["')
    # `\N` as a whole field is NULL. Within a field it cannot occur, since a literal backslash is doubled.
    return f'[["{strings}"]]'.replace('"\\N"', "null")


def content_hash(lines_of: Mapping[str, Sequence[str]]) -> bytes:
    """SHA-256 over a batch's lines: for each table that has any, the table's name as a line, then its lines.

    Tables come in the order of HASHED_COLUMNS, lines as in LINE_ORDER; each line ends with a newline.
    """
    digest = hashlib.sha256()
    for table in HASHED_COLUMNS:
        lines = lines_of.get(table)
        if lines:
            digest.update(f"{table}\n".encode())
            digest.update("".join(lines).encode())
    return digest.digest()
