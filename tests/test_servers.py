"""The tests' object-store servers: what each makes of preconditions, ranges, pages and parts."""

from __future__ import annotations

import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.servers.backends import CARELESS, FAST, HONEST, backends
from support.servers.dialects import Dialect
from support.servers.gcs import GcsAnswer
from support.servers.messages import Request
from support.servers.plain import SIGNED, send, split
from support.servers.s3 import MotoAnswer

RACES, WRITERS = 100, 16
HASTY_WRITERS = 8
LIMIT = 60.0
CARELESS_RACES = 5
PART = 5 << 20  # bytes; the least that S3 takes for a part that is not the last


def winners(fs, url):
    """Let 16 writers create one object; return those who were told that they had."""

    def won(number):
        try:
            fs.pipe_file(url, f"{number}".encode(), mode="create")
        except OSError:  # `FileExistsError`, but of some servers `OSError(EINVAL)`
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        return [number for number, wins in enumerate(pool.map(won, range(WRITERS))) if wins]


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_of_16_creators_one_wins(server):
    """In each of 100 races, and the winner's bytes are there."""
    url, _ = server.root()
    fs = server.filesystem()
    for race in range(RACES):
        (winner,) = winners(fs, f"{url}/{race}")
        assert fs.cat_file(f"{url}/{race}") == f"{winner}".encode()


@pytest.mark.parametrize("server", CARELESS, indirect=True)
def test_of_16_creators_all_win_where_preconditions_are_ignored(server):
    """So that a test which passes there as well has shown nothing."""
    url, _ = server.root()
    fs = server.filesystem()
    for race in range(CARELESS_RACES):
        assert len(winners(fs, f"{url}/{race}")) == WRITERS


@pytest.fixture
def _hasty():
    """Let threads change places as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("make", [MotoAnswer, GcsAnswer])
def test_the_servers_of_ours_take_one_request_at_a_time(make):
    """Called on 8 threads at once, without a network between them, one create wins."""
    answer, dialect = make(), Dialect.GCS if make is GcsAnswer else Dialect.S3
    begin_at = threading.Barrier(HASTY_WRITERS)
    answer(_make_bucket(dialect))

    def won(race):
        begin_at.wait(LIMIT)
        return answer(_create(dialect, race)).status == 200

    with ThreadPoolExecutor(HASTY_WRITERS) as pool:
        for race in range(RACES):
            assert sum(pool.map(won, [race] * HASTY_WRITERS)) == 1


def _make_bucket(dialect):
    if dialect is Dialect.GCS:
        return Request("POST", "/storage/v1/b", (), b'{"name": "bucket"}')
    return Request("PUT", "/bucket", ())


def _create(dialect, race):
    if dialect is Dialect.GCS:
        upload = "/upload/storage/v1/b/bucket/o?uploadType=media&ifGenerationMatch=0"
        return Request("POST", f"{upload}&name={race}", (), b"data")
    return Request("PUT", f"/bucket/{race}", (("If-None-Match", "*"), *SIGNED.items()), b"data")


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_preconditions_can_be_ignored_on_demand(server):
    """An honest server turns careless for a block, and is honest again after it."""
    url, _ = server.root()
    fs = server.filesystem()
    with server.faults.ignoring_preconditions():
        assert len(winners(fs, f"{url}/one")) == WRITERS
    assert len(winners(fs, f"{url}/two")) == 1


MULTIPART = [
    ("moto", True),
    ("gcs", True),
    ("azurite", True),
    ("ministack", True),
    ("ceph", False),
    ("s3rver", False),
    ("gcp-storage-emulator", False),
]
"""Whether a server honours the precondition of a write that comes in parts."""


@pytest.mark.parametrize(
    ("server", "honours"),
    [pytest.param(*backends(name)[0].values, honours, id=name) for name, honours in MULTIPART],
    indirect=["server"],
)
def test_preconditions_of_writes_in_parts(server, honours):
    """A fact of each server: that is why a create must be one put."""
    url, _ = server.root()
    fs = server.filesystem()
    fs.pipe_file(f"{url}/one", b"one")
    data = os.urandom(PART) + b"the rest"
    refused = False
    try:
        _create_in_parts(fs, server.dialect, f"{url}/one", data)
    except OSError:
        refused = True
    assert refused == honours
    assert fs.cat_file(f"{url}/one") == (b"one" if honours else data)


def _create_in_parts(fs, dialect, url, data):
    if dialect is Dialect.GCS:
        fs.pipe_file(url, data, mode="create", chunksize=PART)
    elif dialect is Dialect.AZURE:
        fs.pipe_file(url, data, mode="create", max_concurrency=2)
    else:
        bucket, name = split(url)
        given = {"Bucket": bucket, "Key": name}
        given["UploadId"] = fs.call_s3("create_multipart_upload", **given)["UploadId"]
        parts = [
            {"PartNumber": number, **_part(fs, number, part, given)}
            for number, part in enumerate((data[:PART], data[PART:]), 1)
        ]
        done = {"MultipartUpload": {"Parts": parts}, "IfNoneMatch": "*"}
        fs.call_s3("complete_multipart_upload", **given, **done)


def _part(fs, number, data, given):
    sent = fs.call_s3("upload_part", PartNumber=number, Body=data, **given)
    return {"ETag": sent["ETag"]}


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_an_upload_that_is_given_up_leaves_no_object(server):
    """Parts were sent, the upload is discarded, and the name is still free."""
    url, _ = server.root()
    fs = server.filesystem()
    file = fs.open(f"{url}/one", "wb", block_size=PART)
    try:
        file.write(os.urandom(PART + 1000))
        if server.dialect is Dialect.AZURE:
            file.buffer = None  # blocks that nobody commits; adlfs has no `discard`
        else:
            file.discard()
    finally:
        file.closed = True
    assert server.log.exchanges().sent > PART
    assert not fs.exists(f"{url}/one")
    if server.dialect is not Dialect.AZURE:  # Azurite takes blocks without a list for a blob
        fs.pipe_file(f"{url}/one", b"one", mode="create")


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_a_range_is_read_alone(server):
    """One request that names the range, and no more bytes than it asked for."""
    url, _ = server.root()
    fs = server.filesystem()
    data = os.urandom(10_000)
    fs.pipe_file(f"{url}/one", data)
    with server.log.counting() as seen:
        assert fs.cat_file(f"{url}/one", start=100, end=200) == data[100:200]
    assert (len(seen), seen.received) == (1, 100)
    assert "bytes=100-199" in seen[0].headers.values()


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_odd_names_stay_what_they_are(server):
    """Spaces, percents, question marks and letters of other alphabets, in names of objects."""
    url, _ = server.root()
    fs = server.filesystem()
    names = [f"{url.partition('://')[2]}/{name}" for name in ("a b", "é日本", "p%20q?y", "x/y/z")]
    for name in names:
        fs.pipe_file(name, name.encode(), mode="create")
        assert fs.cat_file(name) == name.encode()
    assert sorted(fs.find(url)) == sorted(names)
    assert all(server.log.count(key=f"^{re.escape(name)}$") > 1 for name in names)


@pytest.mark.parametrize("server", backends("moto", "gcs", "ministack", "ceph"), indirect=True)
def test_a_listing_comes_in_pages(server):
    """Names and folded prefixes share the page's limit; the pages hold each once, in order."""
    url, _ = server.root("")
    fs, bucket = server.filesystem(), split(url)[0]
    for name in ("a", "b/1", "b/2", "c", "d/1", "e"):
        fs.pipe_file(f"{bucket}/{name}", b"")
    pages, token = [], None
    while True:
        names, token = _page(fs, server.dialect, bucket, token)
        pages.append(names)
        if token is None:
            break
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [name for page in pages for name in sorted(page)] == ["a", "b/", "c", "d/", "e"]


def _page(fs, dialect, bucket, token):
    if dialect is Dialect.GCS:
        more = {"pageToken": token} if token else {}
        limits = {"delimiter": "/", "maxResults": 2, **more}
        told = fs.call("GET", "b/{}/o", bucket, json_out=True, **limits)
        names = [item["name"] for item in told["items"]] + told["prefixes"]
        return names, told.get("nextPageToken")
    more = {"ContinuationToken": token} if token else {}
    told = fs.call_s3("list_objects_v2", Bucket=bucket, Delimiter="/", MaxKeys=2, **more)
    names = [item["Key"] for item in told.get("Contents", [])]
    names += [item["Prefix"] for item in told.get("CommonPrefixes", [])]
    return names, told.get("NextContinuationToken")


class TestGcs:
    """What is ours to prove of the server that we wrote."""

    def test_a_resumable_upload_is_checked_when_it_ends(self, gcs_server):
        """Of two that began while the name was free, the second to end is refused."""
        url, _ = gcs_server.root()
        bucket, name = split(f"{url}/one")
        upload = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&ifGenerationMatch=0"
        begun = [gcs_server.request("POST", f"{upload}&name={name}") for _ in range(2)]
        ends = [dict(answer.headers)["Location"].partition(gcs_server.url)[2] for answer in begun]
        told = [send(gcs_server, "PUT", end, b"data")[0] for end in ends]
        assert told == [200, 412]
        assert [send(gcs_server, "PUT", end, b"data")[0] for end in ends] == told

    def test_generations_guard_reads_copies_and_deletes(self, gcs_server):
        """What has changed since is neither read, overwritten nor deleted."""
        url, _ = gcs_server.root()
        fs = gcs_server.filesystem()
        fs.pipe_file(f"{url}/one", b"one")
        old = fs.info(f"{url}/one")["generation"]
        fs.pipe_file(f"{url}/one", b"two")
        new = fs.info(f"{url}/one", refresh=True)["generation"]
        bucket, name = split(f"{url}/one")
        target = f"/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}"

        def status(method, suffix):
            return send(gcs_server, method, target + suffix)[0]

        assert int(new) > int(old)
        assert status("GET", f"?alt=media&generation={old}") == 404
        assert status("GET", f"?alt=media&ifGenerationMatch={old}") == 412
        assert status("GET", f"?alt=media&ifGenerationNotMatch={new}") == 304
        copy = f"/rewriteTo/b/{bucket}/o/{name.replace('/', '%2F')}"
        assert status("POST", f"{copy}?ifGenerationMatch=0") == 412
        assert status("POST", f"{copy}?ifSourceGenerationMatch={old}") == 412
        assert status("DELETE", f"?ifGenerationMatch={old}") == 412
        assert status("DELETE", f"?ifGenerationMatch={new}") == 204
        assert status("DELETE", "") == 404

    def test_a_batch_deletes_what_is_there(self, gcs_server):
        """Each part of a batch is answered for itself."""
        url, _ = gcs_server.root()
        fs = gcs_server.filesystem()
        fs.pipe_file(f"{url}/one", b"one")
        bucket, name = split(f"{url}/one")
        line = f"\nDELETE /storage/v1/b/{bucket}/o/{name.replace('/', '%2F')} HTTP/1.1\n"
        status, told = send(gcs_server, "POST", "/batch/storage/v1", (line * 2).encode())
        assert (status, told.count(b"HTTP/1.1 204"), told.count(b"HTTP/1.1 404")) == (200, 1, 1)

    def test_a_range_behind_the_end_is_refused(self, gcs_server):
        """A range is cut off at the end of the object; one that begins there is an error."""
        url, _ = gcs_server.root()
        gcs_server.filesystem().pipe_file(f"{url}/one", b"0123456789")
        bucket, name = split(f"{url}/one")
        target = f"/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}?alt=media"

        def ranged(span):
            return send(gcs_server, "GET", target, headers={"Range": f"bytes={span}"})

        assert ranged("8-100") == (206, b"89")
        assert ranged("-3") == (206, b"789")
        assert ranged("10-")[0] == 416
