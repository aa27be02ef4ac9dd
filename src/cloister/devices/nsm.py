"""The virtio security module: requests of the guest's ``nsm`` driver, answered by a function.

Spec: nitro-tools section 5.1, and Linux's ``drivers/misc/nsm.c``: device id 33, one queue; the driver offers
the request as one chain and the place for the response as the next; one chain with both is as good.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from cloister.errors import CloisterError
from cloister.nsm import MAX_REQUEST, MAX_RESPONSE
from cloister.vhost import DeviceError, Virtqueue


class NsmDevice:
    """Calls ``handle(request) -> response`` for each request; the call must not block for long.

    ``ready()``, called at the first request, returns what ``handle`` needs: until it is done the requests
    wait where they are, in the guest's ring, which bounds them.
    """

    features = 0
    queue_count = 1
    config = b""

    def __init__(
        self,
        handle: Callable[[bytes], bytes],
        *,
        ready: Callable[[], asyncio.Future[Any]] | None = None,
    ) -> None:
        self._handle = handle
        self._make_ready = ready
        self._ready: asyncio.Future[Any] | None = None
        self._fail: Callable[[DeviceError], None] | None = None
        self._queue: Virtqueue | None = None
        self._request: bytes | None = None

    def begin(self, fail: Callable[[DeviceError], None]) -> None:
        """Note how to end the device: a guest is coming."""
        self._fail = fail

    def queue_started(self, _index: int, queue: Virtqueue) -> None:
        """Take the ring into use."""
        self._queue = queue

    def queue_stopped(self, _index: int) -> None:
        """Forget what was not answered: the guest resets the device."""
        self._queue = None
        self._request = None

    def kicked(self, _index: int) -> None:
        """Answer what is there; at most the ring's size, so a guest cannot hold the loop."""
        queue = self._queue
        if queue is None or (queue.pending and not self._is_ready()):
            return
        for _ in range(queue.size):
            chain = queue.pop()
            if chain is None:
                break
            if chain.readable:
                # One byte more than allowed is enough for the module to say that the request is too large.
                self._request = b"".join(view[: MAX_REQUEST + 1] for view in chain.readable)[
                    : MAX_REQUEST + 1
                ]
            queue.push(chain.head, self._answer(chain.writable))
        queue.publish()

    def end(self) -> None:
        """Forget the peer: nothing else is held."""
        self._queue = self._fail = None

    def _is_ready(self) -> bool:
        if self._make_ready is None:
            return True
        if self._ready is None:
            self._ready = self._make_ready()
            self._ready.add_done_callback(self._catch_up)
        return self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None

    def _catch_up(self, ready: asyncio.Future[Any]) -> None:
        """Answer what waited; where nothing can be answered, whoever prepares it ends the enclave."""
        if ready.cancelled() or ready.exception() is not None:
            return
        try:
            self.kicked(0)
        except DeviceError as error:
            if self._fail is not None:
                self._fail(error)

    def _answer(self, places: list[memoryview]) -> int:
        """Write the response where the guest wants it; return its length, zero when it cannot be given."""
        if not places or not self._request:
            return 0
        request, self._request = self._request, None
        try:
            response = self._handle(request)
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
