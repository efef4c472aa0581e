"""By which queue a command goes, from what workers have said of themselves."""

from shared.ids import Partition
from shared.routes import Routes


def queues(routes: Routes, partitions: int = 4) -> list[int]:
    return [int(routes.queue(Partition(partition))) for partition in range(partitions)]


def test_a_partition_whose_owner_is_not_known_is_reached_by_its_own_queue() -> None:
    assert queues(Routes(4)) == [0, 1, 2, 3]


def test_all_that_one_worker_owns_is_reached_by_the_queue_that_brought_it_commands() -> None:
    routes = Routes(4)
    routes.learn("one", (0, 1, 2, 3), 2)
    assert queues(routes) == [2, 2, 2, 2]
    # And goes on to be: senders that changed with each reply would share nothing.
    routes.learn("one", (0, 1, 2, 3), 0)
    assert queues(routes) == [2, 2, 2, 2]


def test_a_queue_of_which_nobody_knows_that_it_is_heard_leads_nowhere_else() -> None:
    routes = Routes(4)
    routes.learn("one", (0, 1, 2, 3), None)
    assert queues(routes) == [0, 1, 2, 3]
    # It came by the queue of a partition that is being given back.
    routes.learn("one", (1, 2), 0)
    assert queues(routes) == [0, 1, 2, 3]
    routes.learn("one", (1, 2), 1)
    assert queues(routes) == [0, 1, 1, 3]


def test_what_another_worker_owns_by_now_is_reached_by_a_queue_of_that_one() -> None:
    routes = Routes(4)
    routes.learn("one", (0, 1, 2, 3), 0)
    routes.learn("two", (1, 3), 3)
    assert queues(routes) == [0, 3, 0, 3]
    routes.learn("two", (0, 1, 3), 3)
    assert queues(routes) == [3, 3, 2, 3]
    routes.learn("one", (2,), 2)
    assert queues(routes) == [3, 3, 2, 3]


def test_a_worker_that_gives_its_leading_queue_away_is_led_to_by_another_once_that_has_brought_something() -> None:
    routes = Routes(4)
    routes.learn("one", (0, 1, 2, 3), 0)
    routes.learn("one", (1, 2, 3), None)
    assert queues(routes) == [0, 1, 2, 3]
    routes.learn("one", (1, 2, 3), 2)
    assert queues(routes) == [0, 2, 2, 2]


def test_a_worker_that_says_again_what_another_had_contradicted_is_believed() -> None:
    routes = Routes(4)
    routes.learn("one", (0, 1), 0)
    routes.learn("two", (1, 2), 2)
    routes.learn("one", (0, 1), 0)
    assert queues(routes) == [0, 0, 2, 3]


def test_a_worker_that_owns_nothing_any_more_is_forgotten() -> None:
    routes = Routes(2)
    for number in range(100):
        routes.learn(f"worker-{number}", (0, 1), 1)
    routes.learn("worker-99", (), 1)
    assert queues(routes, 2) == [0, 1]
    assert not routes._told
    assert not routes._owners
    assert not routes._leading


def test_a_queue_by_which_nobody_is_heard_leads_to_nobody_until_a_reply_says_more() -> None:
    routes = Routes(4)
    routes.learn("one", (0, 1, 2), 0)
    routes.forget(Partition(3))
    assert queues(routes) == [0, 0, 0, 3]
    routes.forget(Partition(0))
    assert queues(routes) == [0, 1, 2, 3]
    routes.learn("one", (0, 1, 2), 2)
    assert queues(routes) == [2, 2, 2, 3]


def test_a_queue_that_takes_nothing_leads_to_nobody_whatever_replies_say_until_it_has_taken_something() -> None:
    routes = Routes(4)
    routes.learn("one", (0, 1, 2, 3), 0)
    routes.shun(Partition(0))
    routes.learn("one", (0, 1, 2, 3), 0)  # its worker is still deciding what it took before
    assert queues(routes) == [0, 1, 2, 3]
    routes.learn("one", (0, 1, 2, 3), 1)
    assert queues(routes) == [1, 1, 1, 1]
    routes.forget(Partition(1))
    routes.trust(Partition(0))
    routes.learn("one", (0, 1, 2, 3), 0)
    assert queues(routes) == [0, 0, 0, 0]
