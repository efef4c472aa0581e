"""No dependency stands below the version that closed a hole which touches us (security-floors.txt)."""

import re
from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.version import Version

from tests.tree import ROOT

FLOOR = re.compile(r"(?P<name>[a-z0-9-]+)\s+(?P<floor>[0-9.]+)\s+(?P<why>\S.*)")
LINES = (ROOT / "security-floors.txt").read_text(encoding="utf-8").splitlines()
FLOORS = [match for line in LINES if (match := FLOOR.fullmatch(line))]


def test_every_line_of_the_floors_is_a_floor_or_a_comment() -> None:
    assert len(FLOORS) == len([line for line in LINES if line and not line.startswith("#")])


@pytest.mark.parametrize("floor", FLOORS, ids=lambda match: match["name"])
def test_what_is_installed_is_not_below_its_floor(floor: re.Match[str]) -> None:
    try:
        installed = version(floor["name"])
    except PackageNotFoundError:
        pytest.skip(f"{floor['name']} is not installed")
    assert Version(installed) >= Version(floor["floor"]), floor["why"]


@pytest.mark.parametrize("floor", FLOORS, ids=lambda match: match["name"])
def test_what_the_locks_pin_is_not_below_its_floor(floor: re.Match[str]) -> None:
    for lock in ROOT.glob("requirements*.lock"):
        pinned = re.findall(rf"^{floor['name']}==([^\s;]+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
        assert all(Version(each) >= Version(floor["floor"]) for each in pinned), f"{lock.name}: {floor['why']}"
