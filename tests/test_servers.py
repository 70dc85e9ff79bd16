"""The tests' object-store servers: one winner per race, faults that do what they say."""

from __future__ import annotations

import pytest
from support.servers.controls import Fault
from support.threads import begin

RACES = 100
WRITERS = 16


@pytest.mark.parametrize(
    ("fault", "told", "applied"),
    [
        (Fault.REFUSED_500, 500, False),
        (Fault.REFUSED_503, 503, False),
        (Fault.REFUSED_429, 429, False),
        (Fault.CONFLICT_409, 409, False),
        (Fault.LOST_REQUEST, None, False),
        (Fault.LOST_RESPONSE, None, True),
        (Fault.APPLIED_500, 500, True),
        (Fault.STALLED, 200, True),
    ],
)
def test_a_fault_tells_the_client_its_status_and_applies_what_it_says(
    s3_server, fault, told, applied
):
    """The first request meets the fault, and the log says what the server itself did."""
    url, _ = s3_server.root()
    fs = s3_server.filesystem()
    s3_server.faults.next(fault, "/one$", seconds=0.01)
    with s3_server.log.counting() as seen:
        try:
            fs.pipe_file(f"{url}/one", b"1", mode="create")
        except OSError:
            assert fault.applied or fault is Fault.CONFLICT_409
    first = seen[0]
    assert (first.status, first.applied, first.fault) == (told, applied, fault)
    assert first.headers["if-none-match"] == "*"
    assert fs.exists(f"{url}/one") == (fault is not Fault.CONFLICT_409)


def test_a_held_request_waits_for_its_release(s3_server):
    """While a create is held another one wins."""
    url, _ = s3_server.root()
    fs, other = s3_server.filesystem(), s3_server.filesystem()
    with s3_server.faults.hold("/one$") as hold:
        held = begin(fs.pipe_file, f"{url}/one", b"held", mode="create")
        hold.wait()
        other.pipe_file(f"{url}/one", b"other", mode="create")
    with pytest.raises(FileExistsError):
        held.result(60)
    assert fs.cat_file(f"{url}/one") == b"other"
