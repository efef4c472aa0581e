import pytest

from benchmarks import processes
from benchmarks.processes import Process, measure_idle, process_of, trees, used

STAT = "{pid} (a ) b (c) S {parent} 1 1 0 -1 0 0 0 0 0 200 100 50 25 20 0 1 0 1 1 1"


def test_a_process_is_read_whatever_its_program_is_called() -> None:
    found = process_of(STAT.format(pid=42, parent=7))
    assert (found.pid, found.parent) == (42, 7)
    assert found.cpu_s == 375 / 100  # its own and that of children which have ended


def test_each_process_counts_for_the_nearest_root_above_it() -> None:
    processes = {
        each.pid: each
        for each in (Process(1, 0, 9), Process(10, 1, 1), Process(11, 10, 2), Process(12, 11, 4), Process(20, 10, 8))
    }
    found = trees({"postgres": 10, "gateway-1": 20}, processes)
    assert {each.pid for each in found["postgres"]} == {10, 11, 12}
    assert {each.pid for each in found["gateway-1"]} == {20}


def test_a_root_that_has_ended_used_nothing() -> None:
    assert trees({"gateway-1": 99}, {1: Process(1, 0, 9)}) == {"gateway-1": []}


def test_a_process_that_was_restarted_counts_from_its_start() -> None:
    assert used({"gateway-1": 5.0, "postgres": 1.0}, {"gateway-1": 2.0, "postgres": 4.0, "worker": 1.0}) == {
        "gateway-1": 2.0,
        "postgres": 3.0,
        "worker": 1.0,
    }


async def test_at_rest_a_server_below_the_supervisor_is_not_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, 4.0])

    def running() -> dict[int, Process]:
        spent = next(readings)
        # The supervisor (1) started PostgreSQL (2), which started a backend (3).
        return {1: Process(1, 0, 7.0), 2: Process(2, 1, spent), 3: Process(3, 2, spent)}

    monkeypatch.setattr(processes, "running", running)
    found = await measure_idle({"supervisor": 1, "postgres": 2}, {"postgres"}, 0.01)
    assert (found.processes, found.cpu_share) == (1, 0.0)
