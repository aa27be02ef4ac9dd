"""What a starting supervisor tells the command that waits for it."""

import asyncio
import time

import pytest

from cloister.control import EnclaveFailure
from cloister.supervisor.daemon import Channel, News, _listen, news_channel


def test_news_that_pile_up_are_read_one_by_one() -> None:
    """A command that reads late, on a busy host, hears everything, in order."""
    ours, theirs = news_channel()
    told = Channel(theirs)
    told.say("Start allocating memory...")
    told.say("Started enclave with enclave-cid: 16")
    told.started({"EnclaveCID": 16})
    with ours, theirs:
        news = list(_listen(ours, time.monotonic() + 5))
    assert news == [
        News(text="Start allocating memory..."),
        News(text="Started enclave with enclave-cid: 16"),
        News(description={"EnclaveCID": 16}),
    ]


def test_failure_after_other_news_keeps_its_code() -> None:
    """What went wrong is heard even when it comes with what was said before."""
    ours, theirs = news_channel()
    told = Channel(theirs)
    told.say("Start allocating memory...")
    told.failed(EnclaveFailure("E35", "EIF parsing error.", action="Parse EIF file"))
    with ours:
        heard = _listen(ours, time.monotonic() + 5)
        assert next(heard) == News(text="Start allocating memory...")
        with pytest.raises(EnclaveFailure, match="EIF parsing error") as failure:
            next(heard)
    assert failure.value.code == "E35"


@pytest.mark.parametrize(("heard", "deserted"), [(True, False), (False, True)])
def test_supervisor_knows_whether_its_news_was_heard(heard: bool, deserted: bool) -> None:
    """A command that goes before it knows that the enclave runs has deserted it; one that knows may go."""
    ours, theirs = news_channel()
    told = Channel(theirs)
    told.say("Start allocating memory...")
    told.started({"EnclaveCID": 16})
    with ours:
        if heard:
            list(_listen(ours, time.monotonic() + 5))
    assert asyncio.run(asyncio.wait_for(told.deserted(), 5)) == deserted
