"""Every fault point is named at one line of the code: there, or where that line says, a test can make a process die."""

import re

import pytest

from shared.runtime.fault_points import FaultPoint
from tests.tree import python_files, text

NAMED = re.compile(r"\bFaultPoint\.([A-Z_]+)")
PLACES = [match[1] for path in python_files(tests=False) for match in NAMED.finditer(text(path))]


@pytest.mark.parametrize("point", list(FaultPoint))
def test_a_fault_point_is_named_at_one_line(point: FaultPoint) -> None:
    assert PLACES.count(point.name) == 1
