"""The virtio security module: requests of the guest's ``nsm`` driver, answered by a function.

Spec: nitro-tools section 5.1, and Linux's ``drivers/misc/nsm.c``: device id 33, one queue; the driver offers
the request as one chain and the place for the response as the next; one chain with both is as good.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from cloister.errors import CloisterError
from cloister.nsm import MAX_REQUEST, MAX_RESPONSE, NotYetError
from cloister.vhost import Chain, DeviceError, Virtqueue


class NsmDevice:
    """Calls ``handle(request) -> response`` for each request; the call must not block for long.

    ``handle`` raises NotYetError when the answer cannot be given yet; ``ready()`` then returns what has to be
    done first, None when nothing has any more: until then this request and those after it wait where they
    are, in the guest's ring, which bounds them. One request is answered in each turn of the loop, so that
    others have their turn with a guest that never stops asking (decision 127).
    """

    features = 0
    queue_count = 1
    config = b""

    def __init__(
        self,
        handle: Callable[[bytes], bytes],
        *,
        ready: Callable[[], asyncio.Future[Any] | None] = lambda: None,
    ) -> None:
        self._handle = handle
        self._ready = ready
        self._awaited: asyncio.Future[Any] | None = None
        self._fail: Callable[[DeviceError], None] | None = None
        self._queue: Virtqueue | None = None
        self._scheduled = False  # whether the loop's next turn looks at the ring anyway

    def begin(self, fail: Callable[[DeviceError], None]) -> None:
        """Note how to end the device: a guest is coming."""
        self._fail = fail

    def queue_started(self, _index: int, queue: Virtqueue) -> None:
        """Take the ring into use."""
        self._queue = queue

    def queue_stopped(self, _index: int) -> None:
        """Leave the ring alone."""
        self._queue = None

    def kicked(self, _index: int) -> None:
        """Answer one request, if one is there; the next one in the loop's next turn."""
        queue = self._queue
        if queue is None or self._scheduled or self._awaited is not None:
            return
        if self._answer_one(queue):
            queue.publish()
            if queue.pending:
                self._schedule()

    def end(self) -> None:
        """Forget the peer: nothing else is held."""
        self._queue = self._fail = None

    def _wait(self) -> None:
        self._awaited = self._ready()
        if self._awaited is None:  # it has been done meanwhile
            self._schedule()
        else:
            self._awaited.add_done_callback(self._catch_up)

    def _catch_up(self, ready: asyncio.Future[Any]) -> None:
        """Answer what waited; where nothing can be answered, whoever prepares it ends the enclave."""
        if not ready.cancelled() and ready.exception() is None:
            self._awaited = None
            self._go_on()

    def _go_on(self) -> None:
        """Look at the ring again, outside of the back end's own calls."""
        self._scheduled = False
        try:
            self.kicked(0)
        except DeviceError as error:
            if self._fail is not None:
                self._fail(error)

    def _answer_one(self, queue: Virtqueue) -> bool:
        """Take a request and give its answer; return whether anything was given back to the guest."""
        chain = queue.pop()
        if chain is None:
            return False
        if chain.writable:
            return self._give(queue, chain.readable, [chain])
        place = queue.pop()
        if place is None:
            # Linux offers the two one after the other. Given back alone, the request's interrupt would be
            # taken for the answer's; it stays in the ring until the kick that follows its place.
            queue.unpop(1)
            return False
        if place.readable:  # another request: this one will have no answer
            queue.unpop(1)
            queue.push(chain.head, 0)
            return True
        return self._give(queue, chain.readable, [chain, place])

    def _give(self, queue: Virtqueue, parts: list[memoryview], chains: list[Chain]) -> bool:
        """Give the chains back, the answer in the last of them; or, if it has to wait, leave them."""
        written = self._answer(parts, chains[-1].writable)
        if written is None:
            queue.unpop(len(chains))
            self._wait()
            return False
        for chain in chains[:-1]:
            queue.push(chain.head, 0)
        queue.push(chains[-1].head, written)
        return True

    def _answer(self, parts: list[memoryview], places: list[memoryview]) -> int | None:
        """Write the response where the guest wants it; return its length, zero when it cannot be given.

        None when it cannot be given yet.
        """
        if not parts:
            return 0
        # One byte more than allowed is enough for the module to say that the request is too large.
        request = b"".join(view[: MAX_REQUEST + 1] for view in parts)[: MAX_REQUEST + 1]
        try:
            response = self._handle(request)
        except NotYetError:
            return None
        except CloisterError:
            return 0
        if len(response) > min(MAX_RESPONSE, sum(map(len, places))):
            return 0
        left = memoryview(response)
        for place in places:
            size = min(len(place), len(left))
            place[:size] = left[:size]
            left = left[size:]
        return len(response)

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._go_on)
