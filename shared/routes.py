"""By which queue a command reaches the owner of its partition: all that one worker owns share envelopes (ADR 11)."""

from collections.abc import Sequence

from shared.ids import Partition


class Routes:
    """What replies have said. It may be out of date: a worker sends on what is another's by now."""

    def __init__(self, partitions: int) -> None:
        self._queues = [Partition(partition) for partition in range(partitions)]
        self._owners: dict[int, str] = {}
        # The queue that leads to a worker: one that brought it commands. Of another nobody knows whether it is heard: a
        # stopped worker is the broker's consumer for some seconds after its lease has run out.
        self._leading: dict[str, Partition] = {}
        self._told: dict[str, Sequence[int]] = {}
        self._shunned: set[int] = set()

    def queue(self, partition: Partition) -> Partition:
        """The partition to whose queue a command of `partition` goes: its own as long as no other is known."""
        return self._queues[partition]

    def worker(self, queue: Partition) -> str | None:
        """Who decides what goes by this queue; None: nobody knows."""
        return self._owners.get(queue)

    def learn(self, worker: str, owned: Sequence[int], queue: int | None) -> None:
        """`worker` owns these partitions and no others; `queue` has brought it commands."""
        if self._told.get(worker) == owned and worker in self._leading:
            return
        self._owners = {each: owner for each, owner in self._owners.items() if owner != worker}
        self._owners |= dict.fromkeys(owned, worker)
        self._leading = {owner: each for owner, each in self._leading.items() if self._owners.get(each) == owner}
        if queue is not None and self._owners.get(queue) == worker and queue not in self._shunned:
            self._leading.setdefault(worker, Partition(queue))
        self._told[worker] = owned
        # Whoever lost a partition to this one is heard anew, also if it says the same as before.
        self._told = {owner: told for owner, told in self._told.items() if told and self._owns(owner, told)}
        for own in range(len(self._queues)):
            self._queues[own] = self._leading.get(self._owners.get(own, ""), Partition(own))

    def forget(self, queue: Partition) -> None:
        """Nobody is heard by it: until a reply says more, whom it led to is reached by each partition's own queue.

        Nothing if it led to nobody.
        """
        owner = self._owners.get(queue)
        if owner is not None and self._leading.get(owner) == queue:
            self.learn(owner, (), None)

    def shun(self, queue: Partition) -> None:
        """It takes nothing: it leads to nobody, whatever replies say, until it has taken something."""
        self._shunned.add(queue)
        self.forget(queue)

    def trust(self, queue: Partition) -> None:
        """It has taken something."""
        self._shunned.discard(queue)

    def _owns(self, owner: str, partitions: Sequence[int]) -> bool:
        return all(self._owners.get(partition) == owner for partition in partitions)
