"""House rules that no linter knows: lengths, words, exact money, reasons. After TigerBeetle's `tidy.zig`.

`tests/tidy_exceptions.txt` names what may be longer, each with its reason; a line that is no longer needed fails too.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gateway.http.problems import PROBLEM_TYPES
from shared.domain.rejections import Rejection
from tests.tree import ROOT, files, python_files, text, tree

FUNCTION_LINES_MAX = 40
FILE_LINES_MAX = 300
GLOSSARY = Path("docs/GLOSSARY.md")
EXCEPTION = re.compile(r"(?P<name>\S+)\s+(?P<reason>\S.{9,})")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# They say nothing of what a part does. `data` alone neither; `data_dir`, where the servers keep theirs, does.
WORDS_NOT_USED = frozenset({"common", "helper", "helpers", "info", "infos", "manager", "managers", "util", "utils"})
NAMES_NOT_USED = re.compile(r"_*(?:data|(?:from|to)_(?:account|acct)s?(?:_id)?)")

MONEY_CODE = ("shared/domain/money.py", "shared/messages/", "shared/domain/rejections.py")
MONEY_NAME = re.compile(r"(?:^|_)(?:amount|available|balance|credit|debit|delta|fee|held|limit|minor)(?:_|$)")

# docs/API.md: one code has one status. Those that the ledger itself decides.
STATUS_OF = {
    "already_exists": 409, "hold_not_open": 409, "already_reversed": 409, "account_not_empty": 409, "cancelled": 409,
    "insufficient_funds": 422, "asset_mismatch": 422, "unknown_asset": 422, "account_not_found": 422,
    "account_frozen": 422, "account_closed": 422, "same_account": 422, "idempotency_key_reused": 422,
    "quote_expired": 422, "limit_exceeded": 422, "address_refused": 422,
    "internal_error": 500, "forbidden": 403, "not_found": 404,
}  # fmt: skip

# In two pieces, so that this file does not find itself.
MACHINE_PATHS = re.compile("/" + r"(?:work|root|farm|home/[a-z]+|tmp/brief)/")
SILENCED = re.compile(r"#\s*(?:noqa|type:\s*ignore|pyright:\s*ignore)")
SILENCED_WITH_REASON = re.compile(
    r"#\s*(?:noqa:\s*[A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*|pyright:\s*ignore\[[A-Za-z, ]+\])\s+\W*\w+.*\w+"
)


def exceptions() -> dict[str, str]:
    """Names that may be longer than the rule, `path` or `path::function`, and why."""
    lines = (ROOT / "tests" / "tidy_exceptions.txt").read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            match = EXCEPTION.fullmatch(line.strip())
            assert match, f"tidy_exceptions.txt: a name and its reason, please: {line!r}"
            found[match["name"]] = match["reason"]
    return found


def lengths() -> Iterator[tuple[str, int, int]]:
    """Name, lines and the most lines that it may have, for every file and function."""
    for path in files():
        if path.suffix in {".py", ".sh", ".sql"}:
            yield str(path), text(path).count("\n"), FILE_LINES_MAX
    for path in python_files(tests=True):
        for node in ast.walk(tree(path)):
            if isinstance(node, FUNCTIONS):
                yield f"{path}::{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1, FUNCTION_LINES_MAX


def test_no_function_and_no_file_is_too_long_without_a_reason() -> None:
    allowed = exceptions()
    long = {name: f"{lines} lines, not {most}" for name, lines, most in lengths() if lines > most}
    assert not {name: why for name, why in long.items() if name not in allowed}, "split it, or give a reason"
    assert not set(allowed) - set(long), "no longer too long: drop the exception"


def names_made(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that this file brings into the world, with its line. A field named by an API is a string there."""
    for part in (*path.parts[:-1], path.stem):
        yield 1, part
    for node in ast.walk(tree(path)):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield 1, node.asname


def words(name: str) -> set[str]:
    """`LedgerClient_v2` → {ledger, client, v2}."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def test_no_name_says_nothing() -> None:
    found = [
        f"{path}:{line} {name}"
        for path in python_files(tests=True)
        for line, name in names_made(path)
        if words(name) & WORDS_NOT_USED or NAMES_NOT_USED.fullmatch(name)
    ]
    assert not found


def retired_words() -> list[str]:
    """What the glossary says is no longer used: words that once named parts which are gone."""
    [line] = [line for line in text(GLOSSARY).splitlines() if line.startswith("Retired: ")]
    return re.findall(r"`([^`]+)`", line)


def test_retired_words_are_gone_from_code_and_documents() -> None:
    retired = retired_words()
    assert retired
    # As a whole word, or as a whole part of a name.
    pattern = re.compile(
        "(?<![a-z])(?:" + "|".join(word.replace(" ", "[ _]?") for word in retired) + ")(?![a-z])", re.IGNORECASE
    )
    prose = [path for path in files() if path.suffix in {".md", ".py", ".sql", ".sh", ".yml", ".toml", ".json", ".txt"}]
    found = [
        f"{path}:{number} {match[0]}"
        for path in prose
        if path != GLOSSARY and path.name != "CHANGELOG.md"
        for number, line in enumerate(text(path).splitlines(), 1)
        for match in pattern.finditer(line)
    ]
    assert not found


def test_one_name_means_one_class() -> None:
    """Whoever reads a class's name in a log or a signature knows which it is."""
    places: dict[str, list[str]] = {}
    for path in python_files(tests=False):
        for node in tree(path).body if path.parts[0] != "benchmarks" else ():  # the baseline is a system of its own
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def is_money_code(path: Path) -> bool:
    """Pure code that counts: nothing in it may be inexact."""
    return str(path).startswith(MONEY_CODE) or (path.parts[0] == "services" and "core" in path.parts)


def inexact(path: Path) -> Iterator[tuple[int, str]]:
    """Floats, true divisions and decimals with a context, in pure code; amounts that are floats, anywhere."""
    pure = is_money_code(path)
    for node in ast.walk(tree(path)):
        line = getattr(node, "lineno", 1)
        if pure and isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield line, f"the float {node.value}"
        elif pure and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield line, "a true division"
        elif pure and isinstance(node, ast.Name) and node.id in {"float", "Decimal"}:
            yield line, node.id
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation and "float" in ast.unparse(node.annotation):
            name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
            if MONEY_NAME.search(name) and not name.endswith(("_s", "_ms")):
                yield line, f"{name}: float"


def test_money_is_exact() -> None:
    assert not [f"{path}:{line} {what}" for path in python_files(tests=False) for line, what in inexact(path)]


CLOCKS_AND_LOTS = re.compile(r"\b(?:datetime\.now|datetime\.utcnow|date\.today|uuid[14]|os\.urandom|open)\(")


def test_a_core_reads_no_clock_and_draws_no_lots() -> None:
    """What the import contracts cannot see: `datetime` and `uuid` are types as well as clocks and lots."""
    pure = [path for path in python_files(tests=False) if is_money_code(path)]
    assert not [f"{path}: {match[0]}" for path in pure for match in CLOCKS_AND_LOTS.finditer(text(path))]


@pytest.mark.parametrize("rejection", list(Rejection))
def test_every_rejection_has_a_problem_type_with_the_status_of_the_contract(rejection: Rejection) -> None:
    assert PROBLEM_TYPES[rejection].status == STATUS_OF[rejection.value]
    assert PROBLEM_TYPES[rejection].title


def test_invariants_raise_and_are_not_asserted() -> None:
    """`python -O` strips `assert`."""
    asserted = [
        f"{path}:{node.lineno}"
        for path in python_files(tests=False)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert)
    ]
    assert not asserted


def test_a_silenced_check_is_named_and_says_why() -> None:
    silenced = [
        f"{path}:{number} {line.strip()}"
        for path in python_files(tests=True)
        if path.name != "test_tidy.py"
        for number, line in enumerate(text(path).splitlines(), start=1)
        if SILENCED.search(line) and not SILENCED_WITH_REASON.search(line)
    ]
    assert not silenced


def test_no_path_of_one_machine_is_written_down() -> None:
    found: list[str] = []
    for path in files():
        try:
            lines = text(path).splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path}:{number} {line[:120]}" for number, line in enumerate(lines, 1) if MACHINE_PATHS.search(line)]
    assert not found


def test_the_locks_are_hashed_and_name_no_index() -> None:
    locks = [path for path in files() if path.name.startswith("requirements") and path.suffix == ".lock"]
    assert locks
    for path in locks:
        assert "://" not in text(path), f"{path} records an address"
        pinned = re.findall(r"^\S+==.*$", text(path), re.MULTILINE)
        assert pinned, f"{path} is empty"
        assert all(line.endswith("\\") for line in pinned), f"{path} has a requirement without a hash"
