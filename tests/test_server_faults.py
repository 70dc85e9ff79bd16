"""What a test server logs, and what goes wrong with it on demand."""

from __future__ import annotations

from collections import Counter

import pytest
from support.processes import run_together
from support.servers.backends import FAST, HONEST
from support.servers.controls import RANDOM_FAULTS, Chance, Controls, Fault, Rule
from support.servers.dialects import Dialect
from support.servers.messages import Request, Response
from support.servers.plain import create, read, send, split
from support.servers.proxy import FaultProxy
from support.threads import begin

LIMIT = 60.0

FATES = [
    (Fault.REFUSED_403, 403, False),
    (Fault.REFUSED_500, 500, False),
    (Fault.REFUSED_503, 503, False),
    (Fault.REFUSED_429, 429, False),
    (Fault.CONFLICT_409, 409, False),
    (Fault.LOST_REQUEST, None, False),
    (Fault.LOST_RESPONSE, None, True),
    (Fault.APPLIED_500, 500, True),
    (Fault.STALLED, 200, True),
]
"""What the client is told, and whether the server did what it was asked."""


@pytest.mark.parametrize("server", FAST, indirect=True)
@pytest.mark.parametrize(("fault", "told", "applied"), FATES)
def test_a_fault_does_what_it_says(server, fault, told, applied):
    """The client is told so, the object is there or not, the log knows both; then all is well."""
    url, _ = server.root()
    server.faults.next(fault, "/one$", seconds=0.01)
    assert create(server, f"{url}/other", b"0") == 200
    with server.log.counting() as seen:
        assert create(server, f"{url}/one", b"1") == told
        assert read(server, f"{url}/one") == (b"1" if applied else None)
        assert create(server, f"{url}/one", b"2") == (412 if applied else 200)
    first, second = seen
    assert (first.status, first.applied, first.fault) == (told, applied, fault)
    assert first.outcome == (200 if applied else None)
    assert second.fault is None


def test_every_fault_is_tried():
    """But those that hold a request, which have tests of their own."""
    assert {fault for fault, _, _ in FATES} == set(Fault) - {Fault.HELD_BEFORE, Fault.HELD_AFTER}


def test_a_client_library_resends_what_was_applied(s3_server):
    """s3fs is told by its own second put that the object exists."""
    url, _ = s3_server.root()
    s3_server.faults.next(Fault.LOST_RESPONSE, "/one$")
    with s3_server.log.counting() as seen, pytest.raises(FileExistsError):
        s3_server.filesystem().pipe_file(f"{url}/one", b"1", mode="create")
    assert [(one.method, one.outcome, one.status) for one in seen] == [
        ("PUT", 200, None),
        ("PUT", 412, 412),
    ]


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("server", FAST, indirect=True)
def test_a_held_request_waits_for_its_release(server, applied):
    """Held before the server acts it loses to another create, held after that it has won."""
    url, _ = server.root()
    with server.faults.hold("/one$", applied=applied) as hold:
        held = begin(create, server, f"{url}/one", b"held")
        hold.wait()
        other = create(server, f"{url}/one", b"other")
        assert not held.done()
    told = {True: (200, 412, b"held"), False: (412, 200, b"other")}[applied]
    assert (held.result(LIMIT), other, read(server, f"{url}/one")) == told


def test_a_rule_counts_what_it_matches(gcs_server):
    """The first of the requests of its key pass, then as many meet it as it says."""
    url, _ = gcs_server.root()
    gcs_server.faults.add(Rule(Fault.REFUSED_503, "/x", skip=1, times=2))
    assert [create(gcs_server, f"{url}/{name}", b"") for name in ("x1", "y", "x2", "x3", "x4")] == [
        200,
        200,
        503,
        503,
        200,
    ]


def test_a_rule_knows_methods_and_queries(s3_server):
    """Reads go on while writes fail; an upload's end fails while its parts arrive."""
    url, _ = s3_server.root()
    fs = s3_server.filesystem()
    bucket, name = split(f"{url}/one")
    given = {"Bucket": bucket, "Key": name}
    s3_server.faults.add(Rule(Fault.CONFLICT_409, methods=("POST",), query="^uploadId="))
    begun = fs.call_s3("create_multipart_upload", **given)["UploadId"]
    sent = fs.call_s3("upload_part", PartNumber=1, UploadId=begun, Body=b"1", **given)
    parts = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}}
    with pytest.raises(OSError, match="ConditionalRequestConflict"):
        fs.call_s3("complete_multipart_upload", UploadId=begun, **given, **parts)
    fs.call_s3("complete_multipart_upload", UploadId=begun, **given, **parts)
    s3_server.faults.next(Fault.REFUSED_503, "/one$", "GET")
    assert send(s3_server, "HEAD", f"/{bucket}/{name}") == (200, b"")
    told = [send(s3_server, "GET", f"/{bucket}/{name}") for _ in range(2)]
    assert [status for status, _ in told] == [503, 200]


def test_chance_is_a_share_of_the_changes_and_repeats_itself(gcs_server):
    """A seed is a sequence of fates; reads and other names are left alone."""
    url, _ = gcs_server.root()

    def fates(seed, batch):
        with (
            gcs_server.faults.by_chance(Chance(0.25, seed, key="/x", seconds=0.0)),
            gcs_server.log.counting() as seen,
        ):
            for number in range(200):
                create(gcs_server, f"{url}/x{batch}-{number}", b"")
        return [one.fault for one in seen]

    first = fates(1, 0)
    assert fates(1, 1) == first
    assert fates(2, 2) != first
    drawn = Counter(first)
    assert 30 <= 200 - drawn[None] <= 70
    assert set(drawn) == {None, *RANDOM_FAULTS}
    with gcs_server.faults.by_chance(Chance(1.0, 1, key="/x")):
        assert create(gcs_server, f"{url}/y", b"") == 200
        assert send(gcs_server, "GET", f"/storage/v1/b/{url[5:].partition('/')[0]}")[0] == 200


def test_latency_comes_before_the_server():
    """Every request waits that long; nothing is measured here, the wait itself is seen."""
    waits = []
    controls = Controls(Dialect.S3, lambda _: Response(200, (), f"{len(waits)}".encode()))
    controls._closing.wait = waits.append
    controls.set_latency(0.25)
    told = controls.handle(Request("GET", "/bucket/one", ()))
    assert (waits, told.body) == ([0.25], b"1")


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_the_log_has_bytes_keys_and_conditions(server):
    """What a client sent and got, without what made the bucket."""
    url, _ = server.root()
    fs = server.filesystem()
    with server.log.counting() as seen:
        fs.pipe_file(f"{url}/one", b"x" * 1000, mode="create")
        fs.cat_file(f"{url}/one", start=0, end=1000)
    put, get = seen
    key = f"{url.partition('://')[2]}/one"
    assert (put.key, get.key, get.received) == (key, key, 1000)
    assert 1000 <= put.sent < 1300  # gcsfs sends the name along
    conditional = put.headers.get("if-none-match") == "*" or "ifGenerationMatch=0" in put.query
    assert conditional
    assert server.log.count("PUT") + server.log.count("POST") == 1


def test_a_proxy_has_faults_and_a_log_of_its_own(s3_server):
    """One client's requests fail, another's to the same server do not."""
    url, _ = s3_server.root()
    with FaultProxy(s3_server) as proxy:
        proxy.faults.add(Rule(Fault.LOST_RESPONSE, times=None))
        assert create(proxy, f"{url}/one", b"1") is None
        assert create(s3_server, f"{url}/one", b"2") == 412
        assert create(s3_server, f"{url}/two", b"2") == 200
        assert [one.key[-3:] for one in proxy.log.exchanges()] == ["one"]
        proxy.faults.clear()
        theirs, _ = proxy.root()
        fs = proxy.filesystem()
        fs.pipe_file(f"{theirs}/a", b"a", mode="create")
        assert fs.cat_file(f"{theirs}/a") == b"a"


def _put_many(url, options, name):
    fs = __import__("fsspec").filesystem("gs", **options)
    for number in range(50):
        fs.pipe_file(f"{url}/{name}{number}", b"", mode="create")


def test_processes_share_a_server_and_its_log(gcs_server):
    """A server is there for every process that knows its URL."""
    url, options = gcs_server.root()
    run_together(_put_many, [(url, options, "a"), (url, options, "b")])
    assert gcs_server.log.count("POST", "/[ab][0-9]+$", status=200) == 100
