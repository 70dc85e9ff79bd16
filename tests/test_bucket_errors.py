"""What a user is told whose bucket, credentials, endpoint or options are wrong, and how soon."""

from __future__ import annotations

import pickle
import sys
from importlib import metadata

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as registered
from support.results import DATA, TABLE, build, row
from support.scopes import ACME, BETA
from support.servers.backends import FAST, backends
from support.servers.guarded import read_only, without_listing
from support.servers.s3 import S3_KEY, S3_SECRET

from jammi_files import (
    Catalog,
    InvalidInputError,
    Match,
    StateError,
    StorageError,
    TableNotFoundError,
    connect,
    patience,
    roots,
)
from jammi_files.dialects import DIALECTS

STORES = backends("moto", "gcs", "azurite")
DEAD = "http://127.0.0.1:1"
AZURE = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aw=="
SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch, tmp_path):
    """Let no test find credentials, endpoints or a metadata service."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def impatient(monkeypatch):
    """Let the first answer come at once or never."""
    monkeypatch.setattr(patience, "FIRST_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(patience, "FIRST_SECONDS", 0.0)


def opened(root, options, **more):
    return connect(root, storage_options=options, cache_dir="off", **more)


# --- where nothing is


@pytest.mark.parametrize("server", STORES, indirect=True)
def test_no_such_bucket(server):
    """Opening says that the bucket does not exist, and tries nothing again."""
    options = server.storage_options()
    with (
        server.log.counting() as seen,
        pytest.raises(StorageError, match="the bucket does not exist; create it first"),
    ):
        opened(f"{server.dialect}://no-such-bucket/root", options)
    assert len(seen) <= 2


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("scheme", "options", "told"),
    [
        ("s3", {"key": "k", "secret": "s", "endpoint_url": DEAD}, "endpoint_url .or AWS_END"),
        ("gs", {"token": "anon", "endpoint_url": DEAD}, "endpoint_url .or STORAGE_EMULATOR_HOST"),
        (
            "abfs",
            {"connection_string": f"{AZURE};BlobEndpoint={DEAD}/a"},
            "account_host or connection_string",
        ),
    ],
)
def test_nothing_listens(scheme, options, told):
    """Where nothing listens the error says what decides where requests go."""
    with pytest.raises(StorageError, match=f"nothing has ever answered there: check .*{told}"):
        opened(f"{scheme}://bucket/root", options)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("server", STORES, indirect=True)
def test_nobody_answers(server, monkeypatch):
    """An endpoint that takes requests and never answers is given up, not asked for ever."""
    root, options = server.root()
    with (
        server.faults.hold("", "GET", times=None),
        pytest.raises(StorageError, match="no answer came in time; nothing has ever answered"),
    ):
        opened(root, options)
    assert server.log.count() <= 2
    monkeypatch.undo()
    assert opened(root, options).catalog.version == 0


def test_patience_grows_with_the_first_answer():
    """Whoever has been reached is waited for, longer if many bytes are to pass."""
    strange = patience.Patience(is_reached=False, size=2**30)
    known = patience.Patience(is_reached=True, size=0)
    assert strange.limit == patience.FIRST_ANSWER_SECONDS < known.limit
    assert patience.Patience(is_reached=True, size=2**30).limit == known.limit + 1024


# --- who one is


def test_no_credentials(s3_server):
    """Without credentials the error says so, and which permissions are needed."""
    root, options = s3_server.root()
    nobody = {name: options[name] for name in ("endpoint_url", "client_kwargs")}
    with pytest.raises(StorageError, match=r"denied it \(Unable to locate credentials\).*s3:GetOb"):
        opened(root, nobody)
    assert s3_server.log.count() == 0


def test_credentials_that_may_only_read(guarded):
    """With credentials that may only read, reads work and a write says what is missing."""
    root, options = guarded.root()
    name = build(opened(root, options))
    before = guarded.log.count("PUT", status=200)
    guarded.guard = read_only
    store = opened(root, options)
    assert store.verify_materialization(name) == Match()
    for write in (
        lambda: store.catalog.create_result_table(**row("t")),
        lambda: build(store),
        lambda: store.delete_table(name),
    ):
        with pytest.raises(StorageError, match=r"denied it .*HTTP 403.*s3:PutObject"):
            write()
    assert guarded.log.count("PUT", status=200) == before
    assert store.open_table(name).to_table() == DATA


def test_trap_17_without_permission_to_list(guarded):
    """`trap 17`: S3 answers 403 for a missing key without s3:ListBucket: the error says so."""
    root, options = guarded.root()
    guarded.guard = without_listing
    with pytest.raises(StorageError, match="without s3:ListBucket S3 denies an object that does"):
        opened(root, options)


# --- options


@pytest.mark.parametrize(
    ("scheme", "option", "told"),
    [
        ("s3", "endpont_url", "did you mean 'endpoint_url'"),
        ("s3", "allow_http", "leave it out"),
        ("s3", "AWS_ALLOW_HTTP", "leave it out"),
        ("s3", "skip_signature", "anon=True"),
        ("s3", "entirely_unknown", "it has anon, "),
        ("gs", "tokn", "did you mean 'token'"),
        ("gs", "service_account_key", r"json\.loads"),
        ("abfs", "acount_name", "did you mean 'account_name'"),
        ("abfs", "AZURE_STORAGE_USE_EMULATOR", "connection_string"),
    ],
)
def test_unknown_options(scheme, option, told):
    """A misspelt option is refused when the root is opened, with what was probably meant."""
    with pytest.raises(InvalidInputError, match=f"no option '{option}'; .*{told}"):
        opened(f"{scheme}://bucket/root", {option: "x"})


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("option", ["asynchronous", "use_listings_cache"])
def test_trap_14_no_cached_listings(scheme, option):
    """`trap 14`: what would make reads stale cannot be switched on."""
    with pytest.raises(InvalidInputError, match=f"'{option}' cannot be True"):
        opened(f"{scheme}://bucket/root", {option: True})


def test_options_as_object_store_calls_them(s3_server):
    """The names that Polars and Delta use for credentials, endpoint and region are understood."""
    root, options = s3_server.root()
    same = {
        "AWS_ACCESS_KEY_ID": options["key"],
        "aws_secret_access_key": options["secret"],
        "aws_endpoint_url": options["endpoint_url"],
        "aws_region": "us-east-1",
    }
    opened(root, same).catalog.create_result_table(**row("t"))
    assert opened(root, options).catalog.get_result_table("t") is not None


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"requester_pays": True}, "x-amz-request-payer", "requester"),
        (
            {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k1"}},
            "x-amz-server-side-encryption-aws-kms-key-id",
            "k1",
        ),
    ],
)
def test_options_reach_every_write(guarded, options, header, value):
    """Who pays, and with which key objects are encrypted, goes with every object written."""
    root, given = guarded.root()
    told = []

    def listen(request, store):
        if request.method in ("PUT", "POST"):
            told.append(request.header(header))
        return store(request)

    guarded.guard = listen
    store = opened(root, given | options)
    name = build(store)
    store.catalog.create_result_table(**row("t"))
    store.catalog.set_checkpoint("t", 1)
    assert len(told) >= 8
    assert set(told) == {value}
    assert store.verify_materialization(name) == Match()


def test_credentials_of_a_profile(guarded, tmp_path):
    """A profile of the AWS configuration signs the requests, an anonymous handle does not."""
    root, options = guarded.root()
    lines = "[other]\naws_access_key_id = PROFILEKEY\naws_secret_access_key = profilesecret\n"
    (tmp_path / "no-credentials").write_text(lines)
    told = []

    def listen(request, store):
        told.append(request.header("authorization"))
        return store(request)

    guarded.guard = listen
    where = {name: options[name] for name in ("endpoint_url", "client_kwargs")}
    opened(root, {**where, "profile": "other"})
    assert told
    assert all("Credential=PROFILEKEY/" in each for each in told)
    told.clear()
    opened(root, {**where, "anon": True})
    assert set(told) == {""}


def test_the_endpoint_of_the_environment(s3_server, monkeypatch):
    """Credentials and endpoint are found in the environment, as by every AWS program."""
    root, options = s3_server.root()
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    Catalog.open(root).create_result_table(**row("t"))
    assert opened(root, options).catalog.get_result_table("t") is not None


# --- secrets


def test_secrets_are_shown_nowhere(guarded):
    """No representation, error, URL or object holds a secret; a pickle holds the options alone."""
    root, options = guarded.root()
    secret = "hunter2/" * 3
    store = opened(root, options | {"secret": secret, "token": secret[::-1]})
    name = build(store)
    shown = [repr(each) for each in (store, store.catalog, store.storage, store.catalog.snapshot())]
    shown += [store.root, store.url(name), str(vars(store.storage)["_dialect"])]

    def tell(request, store):
        message = f"<Error><Code>AccessDenied</Code><Message>{secret}</Message></Error>".encode()
        return type(store(request))(403, (("Content-Type", "application/xml"),), message)

    guarded.guard = tell
    for ask in (lambda: store.catalog.version, lambda: store.url("x")):
        with pytest.raises(StorageError) as caught:
            ask()
        shown.append(str(caught.value))
    assert "***" in shown[-1]
    guarded.unguard()
    fs = guarded.filesystem()
    shown += [fs.cat_file(path).decode("latin-1") for path in fs.find(root)]
    assert [text for text in shown if secret in text or secret[::-1] in text] == []
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
    assert again.verify_materialization(name) == Match()


def test_a_bucket_keeps_its_name_when_its_key_is_exchanged():
    """What a root remembers of where creates are exclusive depends on the place, not on a key."""

    def name(key, account="a"):
        options = {"connection_string": f"AccountName={account};AccountKey={key};EndpointSuffix=x"}
        return roots.open_storage("abfs://c/r", storage_options=options).store

    assert name("b25l") == name("dHdv") != name("dHdv", "other")


@pytest.mark.parametrize(
    "root", ["s3://key:secret@bucket/root", "gs://token@bucket/root", "abfs://c:secret@a/root"]
)
def test_no_credentials_in_a_url(root):
    """A URL with credentials is refused, without repeating them."""
    with pytest.raises(InvalidInputError, match="takes no credentials") as caught:
        opened(root, {})
    assert "secret" not in str(caught.value)


# --- what is installed


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_missing_extra(scheme, monkeypatch):
    """Without the backend the error names the extra to install."""
    extra = DIALECTS[scheme].extra

    def missing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(StorageError, match=rf"pip install 'jammi_files\[{extra}\]'"):
        opened(f"{scheme}://bucket/root", {})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_broken_extra(scheme, monkeypatch):
    """A backend that cannot be imported is as good as none."""
    monkeypatch.setitem(sys.modules, DIALECTS[scheme].module, None)
    with pytest.raises(StorageError, match="pip install"):
        opened(f"{scheme}://bucket/root", {})


@pytest.mark.parametrize(
    ("scheme", "package", "version"),
    [
        ("s3", "s3fs", "2025.5.1"),
        ("s3", "botocore", "1.35.19"),
        ("gs", "gcsfs", "2024.10.0"),
        ("abfs", "adlfs", "2024.7.0"),
    ],
)
def test_trap_18_releases_that_overwrite(scheme, package, version, monkeypatch):
    """`trap 18`: a client that overwrites where it should create is refused by its version."""
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: version if name == package else real(name)
    )
    with pytest.raises(StorageError, match=rf"{package} {version} overwrites.*pip install -U"):
        opened(f"{scheme}://bucket/root", {})


@pytest.mark.parametrize(
    "root", ["simplecache::s3://b/r", "filecache::gs://b/r", "blockcache::s3://b/r"]
)
def test_trap_18_wrapper_file_systems(root):
    """`trap 18`: a chain of file systems would drop the condition of a create: refused."""
    with pytest.raises(InvalidInputError, match="overwrite silently; give the last alone"):
        opened(root, {})


def test_trap_18_the_backend_is_used_itself(s3_server, monkeypatch):
    """`trap 18`: whatever is registered for ``s3``, such as obstore's, is not what is used."""
    monkeypatch.setitem(registered, "s3", MemoryFileSystem)
    root, options = s3_server.root()
    with s3_server.log.counting() as seen:
        opened(root, options).catalog.create_result_table(**row("t"))
    assert seen.count("PUT", key=r"manifest/.*\.parquet", status=200) == 1


# --- other tenants


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_tenants_in_a_bucket(server):
    """In a bucket too a handle sees its own rows and the global ones, and signs no others."""
    root, options = server.root()
    acme, beta = (opened(root, options, tenant=tenant) for tenant in (ACME, BETA))
    name = build(acme)
    assert acme.catalog.get_result_table(name) is not None
    assert beta.catalog.get_result_table(name) is None
    for ask in (beta.sign, beta.open_table, beta.verify_materialization, beta.url):
        with pytest.raises(TableNotFoundError):
            ask(name)


def test_signed_urls(s3_server, root):
    """A ready table's data can be read by its signed URL, without credentials."""
    bucket, options = s3_server.root()
    store = opened(bucket, options)
    name = build(store)
    with s3_server.log.counting() as seen:
        url = store.sign(name, expires=60)
    assert len(seen) == 1
    assert S3_SECRET not in url
    target = url.removeprefix(s3_server.url)
    assert s3_server.request("GET", target).body == store.storage.read(f"{name}.parquet")
    building = store.create_table(*TABLE).table_name
    with pytest.raises(StateError, match="building"):
        store.sign(building)
    for seconds in (0, -1, 1.5, True, 7 * 24 * 3600 + 1):
        with pytest.raises(InvalidInputError, match="expires"):
            store.sign(name, expires=seconds)
    local = connect(root)
    with pytest.raises(StorageError, match="only objects of a bucket can"):
        local.sign(build(local))


def test_credentials_that_cannot_sign(gcs_server):
    """Anonymous credentials cannot sign: a typed error, at once."""
    root, options = gcs_server.root()
    store = opened(root, options)
    name = build(store)
    with gcs_server.log.counting() as seen, pytest.raises(StorageError, match="could not sign"):
        store.sign(name)
    assert len(seen) == 1


def test_roots_are_checked_before_anything_is_sent(s3_server):
    """Wrong options are found without a request."""
    root, options = s3_server.root()
    with pytest.raises(InvalidInputError):
        roots.open_storage(root, storage_options=options | {"endpoint": "http://other"})
    assert s3_server.log.count() == 0
