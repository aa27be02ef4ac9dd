"""The security module as its device sees it, from before it is loaded: with it comes all the cryptography."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from cloister.measure import Measurements
from cloister.nsm import NotYetError
from cloister.places import Places
from cloister.supervisor.request import RunRequest

if TYPE_CHECKING:
    from cloister.supervisor.identity import Identity
    from cloister.supervisor.security import Security

BEHIND: Final = 10
"""The niceness of the thread that loads the cryptography while the guest boots."""


class Preparation:
    """Loads an enclave's security module in a thread of ``pool``, from the first look at ``prepared`` on."""

    def __init__(
        self,
        places: Places,
        slot: int,
        measuring: Future[Measurements],
        request: RunRequest,
        *,
        pool: Executor,
        complain: Callable[[str], None],
    ) -> None:
        self._complain = complain
        self._pool = pool
        self._places = places
        self._slot = slot
        self._measuring = measuring
        self._request = request

    @cached_property
    def prepared(self) -> "Future[tuple[Identity, Security]]":
        """The enclave's names and its module; EnclaveFailure E19 when there is no root of trust."""
        return self._pool.submit(self._prepare)

    def handle(self, request: bytes) -> bytes:
        """Answer the guest; raises NotYetError when what is ``ready`` has to be waited for."""
        if not self._is_prepared:
            raise NotYetError("the security module is being prepared")
        return self.prepared.result()[1].handle(request)

    def ready(self) -> "asyncio.Future[Any] | None":
        """Return what a request that was not answered waits for, None when that has been done."""
        if not self._is_prepared:
            return asyncio.gather(*(asyncio.wrap_future(one) for one in (self.prepared, self._measuring)))
        pending = self.prepared.result()[1].pending
        return None if pending is None else asyncio.wrap_future(pending)

    @property
    def _is_prepared(self) -> bool:
        return _has_succeeded(self.prepared) and _has_succeeded(self._measuring)

    def _prepare(self) -> "tuple[Identity, Security]":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND)  # the guest has the right of way
        from cloister.supervisor.security import prepare_security  # noqa: PLC0415 -- as said

        return prepare_security(
            self._places, self._slot, self._measuring, self._request, complain=self._complain
        )


def _has_succeeded(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
