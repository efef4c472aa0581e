"""Every named fault point stands at one line of the code, where a test can make a process die (shared/faults.py)."""

import re

import pytest

from shared.faults import FaultPoint
from tests.tree import python_files, text

PASSED = re.compile(r"fault_point\(FaultPoint\.([A-Z_]+)\)")
PLACES = [match[1] for path in python_files(tests=False) for match in PASSED.finditer(text(path))]


@pytest.mark.parametrize("point", list(FaultPoint))
def test_a_fault_point_stands_at_one_line(point: FaultPoint) -> None:
    assert PLACES.count(point.name) == 1
