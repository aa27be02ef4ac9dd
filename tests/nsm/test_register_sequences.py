"""Any sequence of requests against a second, plainer account of the registers."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from cloister.nsm import (
    DescribeNsm,
    DescribePcr,
    ErrorCode,
    ExtendPcr,
    LockPcr,
    LockPcrs,
    ModuleDescription,
    PcrExtended,
    PcrLocked,
    PcrsLocked,
    PcrState,
    Refusal,
    Request,
    Response,
    SecurityModule,
    decode_response,
    encode_request,
)
from cloister.pcrs import PcrBank
from simulators.local_chain import MODULE_ID, NOW, local_chain

CHAIN = local_chain()
INDICES = st.integers(14, 33) | st.integers(0, 65535)
REQUESTS = (
    st.builds(DescribePcr, INDICES)
    | st.builds(ExtendPcr, INDICES, st.binary(max_size=9))
    | st.builds(LockPcr, INDICES)
    | st.builds(LockPcrs, INDICES)
    | st.just(DescribeNsm())
)


class Account:
    """Registers as the specification tells of them (nitro-tools.md, section 5.3)."""

    def __init__(self) -> None:
        self.values = [bytes(48) for _ in range(32)]
        self.locked = set(range(16))

    def answer(self, request: Request) -> Response:
        """Say what a module has to answer."""
        match request:
            case DescribeNsm():
                return ModuleDescription(1, 0, 0, MODULE_ID, 32, tuple(sorted(self.locked)))
            case LockPcrs(count) if count <= 32:
                self.locked |= set(range(count))
                return PcrsLocked()
            case DescribePcr(index) if index < 32:
                return PcrState(index in self.locked, self.values[index])
            case ExtendPcr(index, data) if index < 32 and index not in self.locked:
                self.values[index] = hashlib.sha384(self.values[index] + data).digest()
                return PcrExtended(self.values[index])
            case LockPcr(index) if index < 32 and index not in self.locked:
                self.locked.add(index)
                return PcrLocked()
            case ExtendPcr(index) | LockPcr(index) if index < 32:
                return Refusal(ErrorCode.READ_ONLY_INDEX)
        return Refusal(ErrorCode.INVALID_INDEX)


@given(st.lists(REQUESTS, max_size=25))
def test_any_sequence_of_requests(requests: list[Request]) -> None:
    """Answers, values and locks are those of the account, request by request."""
    module = SecurityModule(module_id=MODULE_ID, bank=PcrBank(), credentials=CHAIN.credentials)
    account = Account()
    for request in requests:
        answer = decode_response(module.handle(encode_request(request), now=NOW, random=bytes))
        assert answer == account.answer(request)
