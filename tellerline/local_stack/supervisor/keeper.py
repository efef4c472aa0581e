"""Keeps one part of the stack alive: starts it, waits for its end, starts it again."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

from shared.runtime.retry import backoff_s
from tellerline.local_stack.servers.part import Part
from tellerline.local_stack.servers.process import NotInstalled, StartFailed, how_it_ended

BACKOFF_S_MAX = 5.0
STEADY_S = 10.0  # after this long the next failure counts as the first again
FIRST_STARTS_MAX = 3


class Keeper:
    """Keeps one part running. The parts in `needs` must be ready first."""

    def __init__(
        self, part: Part, tier: int, needs: Sequence["Keeper"], say: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self.part = part
        self.tier = tier
        self.ready = asyncio.Event()
        self._needs = needs
        self._say = say
        self._changed = changed
        self._failures = 0
        self._was_ready = False

    async def keep(self) -> NoReturn:
        """Runs until cancelled. Raises StartFailed when the first FIRST_STARTS_MAX starts have failed."""
        loop = asyncio.get_running_loop()
        while True:
            for need in self._needs:
                await need.ready.wait()
            begun = loop.time()
            if why := await self._start():
                # Without the tail of the log, which is shown when the start is given up.
                said = f"{why.splitlines()[0]}; trying again"
            else:
                self._say(f"{self.part.name} is ready ({loop.time() - begun:.1f} s)")
                begun = loop.time()
                said = f"{self.part.name} {how_it_ended(await self.part.ended())}; starting it again"
                self.ready.clear()
                self._failures = 1 if loop.time() - begun > STEADY_S else self._failures + 1
                self._changed()
            wait_s = backoff_s(self._failures - 1, s_max=BACKOFF_S_MAX)
            self._say(f"{said} in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)

    async def _start(self) -> str | None:
        """None once it is ready, else what went wrong. Raises StartFailed when there is no point in going on."""
        try:
            await self.part.start()
        except (StartFailed, OSError) as error:
            await self.part.stop()
            self._failures += 1
            hopeless = isinstance(error, NotInstalled) or self._failures >= FIRST_STARTS_MAX
            if hopeless and not self._was_ready:
                raise StartFailed(str(error)) from error
            return str(error) if isinstance(error, StartFailed) else f"{self.part.name}: {error}"
        self._was_ready = True
        self.ready.set()
        self._changed()
        return None
