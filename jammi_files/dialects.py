"""The three object stores as their fsspec backends speak to them, and what each needs to be told.

A backend is used directly, never through a wrapper: caching and chained file systems drop the
condition of an exclusive create and overwrite silently, as do releases before ``minimum``.
"""

from __future__ import annotations

import abc
import datetime as dt
import hashlib
import importlib
import os
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, ClassVar, NamedTuple

from fsspec import asyn

from jammi_files import store_options
from jammi_files.errors import InvalidInputError, StorageError


class Entry(NamedTuple):
    """What a listing says of one key: an object, or what others lie under."""

    key: str
    """In the bucket; that of a prefix ends with ``/``."""
    size: int = 0
    modified: dt.datetime | None = None
    """None for a prefix."""


class Dialect(abc.ABC):
    """One kind of store. Instances hold nothing."""

    scheme: ClassVar[str]
    """The scheme of a root's URL."""
    module: ClassVar[str]
    file_system: ClassVar[str]
    extra: ClassVar[str]
    minimums: ClassVar[Mapping[str, tuple[int, ...]]]
    """Packages -> the first release with which an exclusive create is one."""
    spellings: ClassVar[Mapping[str, str]]
    """What object_store, Polars and Delta call an option -> what fsspec calls it."""
    passed_on: ClassVar[tuple[str, ...]] = ()
    """Options that the backend's signature does not name."""
    advice: ClassVar[Mapping[str, str]] = {}
    """Options of object_store that fsspec has no name for -> what to write instead."""
    endpoints: ClassVar[tuple[str, ...]]
    """Environment variables that send requests to another endpoint."""
    reach: ClassVar[str]
    """What decides where requests go."""
    permissions: ClassVar[str]
    """What to do when the store denies access."""
    delete_tells: ClassVar[bool] = True
    """Whether deleting a key that does not exist is an error."""

    def require(self) -> None:
        """Check that the backend is installed and recent enough.

        Raises:
            StorageError: it is not; the message names the extra to install.
        """
        for package, minimum in self.minimums.items():
            try:
                installed = metadata.version(package)
                importlib.import_module(self.module)
            except ImportError as error:  # PackageNotFoundError is one
                msg = f"{self.scheme}:// needs {package}: pip install 'jammi_files[{self.extra}]'"
                raise StorageError(msg) from error
            if _numbers(installed) < minimum:
                wanted = ".".join(map(str, minimum))
                msg = (
                    f"{package} {installed} overwrites where it should create; "
                    f"{self.scheme}:// needs {wanted} or newer: pip install -U {package}"
                )
                raise StorageError(msg)

    def options_for(self, root: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the backend's own spelling of the options, with those that the URL holds.

        Raises:
            InvalidInputError: one option is given twice, is unknown, or would make the catalog
                unsafe.
        """
        chosen: dict[str, Any] = dict(self._class()._get_kwargs_from_urls(root))
        for given, value in options.items():
            name = self.spellings.get(given.lower(), given)
            if name in chosen and chosen[name] != value:
                msg = f"storage_options give '{name}' twice (also as '{given}'); give it once"
                raise InvalidInputError(msg)
            chosen[name] = value
        store_options.check(chosen, self._class(), self.passed_on, self.advice)
        return chosen

    def base_of(self, root: str) -> str:
        """Return the root as the backend's own path, ``bucket/prefix``."""
        return str(self._class()._strip_protocol(root)).strip("/")

    def identity_of(self, base: str, options: Mapping[str, Any]) -> str:
        """Return a name for the bucket at its endpoint, which holds no secret."""
        client = options.get("client_kwargs") or {}
        parts = [
            *(options.get(name) for name in ("account_name", "account_host", "connection_string")),
            options.get("endpoint_url") or client.get("endpoint_url"),
            *(os.environ.get(name) for name in self.endpoints),
            base.split("/", 1)[0],
        ]
        public = store_options.without_keys(repr(parts))  # a key may be exchanged
        return f"{self.scheme}:{hashlib.sha256(public.encode()).hexdigest()[:24]}"

    def connect(self, options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - fsspec has no types
        """Return a new fsspec file system that caches no listing and knows of no versions.

        By itself it would take the end of a key such as ``a?versionId=b`` for a version, and read
        and write the object ``a``.
        """
        fs = self._class()(**{**options, "use_listings_cache": False, "skip_instance_cache": True})
        fs.split_path = self.split
        return fs

    def split(self, path: str, **__: object) -> tuple[str, str, None]:
        """Return the bucket, the key and no version of the backend's own path."""
        trail = path[len(path.rstrip("/")) :]
        bucket, _, key = str(self._class()._strip_protocol(path)).strip("/").partition("/")
        return bucket, key + trail if key else "", None

    # Of the following, ``within`` are the seconds after which nothing is waited for any more.

    def read(self, fs: Any, path: str, within: float) -> bytes:  # noqa: ANN401
        """Read a whole object by one request."""
        return bytes(fs.cat_file(path, timeout=within))

    @abc.abstractmethod
    def size(self, fs: Any, path: str, within: float) -> int:  # noqa: ANN401
        """Return an object's size by one request; `FileNotFoundError` if there is none."""

    def replace(self, fs: Any, path: str, data: bytes, within: float) -> None:  # noqa: ANN401
        """Create or overwrite an object by one request."""
        fs.pipe_file(path, data, timeout=within)

    @abc.abstractmethod
    def list(self, fs: Any, bucket: str, prefix: str, within: float) -> Iterator[Entry]:  # noqa: ANN401
        """Yield what lies directly under a prefix, by one request for a thousand or more.

        fsspec's own `ls` would ask twice or thrice about what is not there, and list its parent.
        `FileNotFoundError` says that the bucket does not exist.
        """

    def _class(self) -> Any:  # noqa: ANN401
        return getattr(importlib.import_module(self.module), self.file_system)


class S3(Dialect):
    """Amazon S3 and the stores that speak its protocol."""

    scheme, extra = "s3", "s3"
    module, file_system = "s3fs", "S3FileSystem"
    # An older botocore does not know the condition of a put, and s3fs leaves out what it does not
    # know: a bucket that has been proved would not help.
    minimums: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "s3fs": (2025, 7),
        "botocore": (1, 35, 20),
    }
    spellings: ClassVar[Mapping[str, str]] = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_session_token": "token",
        "aws_endpoint_url": "endpoint_url",
        "endpoint": "endpoint_url",
    }
    passed_on = ("profile", "session_vars", "event_hooks", "include_builtin_handlers")
    advice: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("allow_http", "aws_allow_http"), "leave it out: an endpoint_url of http:// is enough"
        ),
        **dict.fromkeys(("skip_signature", "aws_skip_signature"), "write anon=True"),
        **dict.fromkeys(
            ("virtual_hosted_style_request", "aws_virtual_hosted_style_request"),
            "write config_kwargs={'s3': {'addressing_style': 'virtual'}}",
        ),
        **dict.fromkeys(
            ("conditional_put", "aws_conditional_put"), "leave it out: creates are conditional"
        ),
    }
    endpoints = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    reach = "endpoint_url (or AWS_ENDPOINT_URL) and the region"
    permissions = (
        "it takes credentials with s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket "
        "(without s3:ListBucket S3 denies an object that does not exist instead of saying so)"
    )
    delete_tells = False

    def options_for(self, root: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return s3fs's own spelling; the region goes to the client."""
        regions = {key: value for key, value in options.items() if _is_region(key)}
        chosen = super().options_for(
            root, {key: value for key, value in options.items() if key not in regions}
        )
        if regions:
            client = {"region_name": next(iter(regions.values()))}
            chosen["client_kwargs"] = {**client, **chosen.get("client_kwargs", {})}
        return chosen

    def read(self, fs: Any, path: str, within: float) -> bytes:  # noqa: ANN401
        """Read a whole object by one request: more than one stream would ask for the size first."""
        return bytes(fs.cat_file(path, max_concurrency=1, timeout=within))

    def size(self, fs: Any, path: str, within: float) -> int:  # noqa: ANN401
        """Return an object's size: `info` would also look for a directory of that name."""
        bucket, key, _ = self.split(path)
        asked = {"Bucket": bucket, "Key": key, "timeout": within}
        return int(fs.call_s3("head_object", **asked)["ContentLength"])

    def split(self, path: str, **__: object) -> tuple[str, str, None]:
        """Return bucket and key; a bucket may be the ARN of an access point, with slashes."""
        bucket, key, _ = super().split(path)
        kind = self._class()
        return *kind._find_bucket_key(kind, f"{bucket}/{key}"), None

    def list(self, fs: Any, bucket: str, prefix: str, within: float) -> Iterator[Entry]:  # noqa: ANN401
        """Yield what lies directly under a prefix."""
        asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/"}
        while True:
            page = fs.call_s3("list_objects_v2", timeout=within, **asked)
            yield from (Entry(each["Prefix"]) for each in page.get("CommonPrefixes", ()))
            for each in page.get("Contents", ()):
                yield Entry(each["Key"], each["Size"], each["LastModified"].astimezone(dt.UTC))
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]


class Gcs(Dialect):
    """Google Cloud Storage."""

    scheme, extra = "gs", "gcs"
    # The core class: the package's default one asks for each bucket's kind, and writes to zonal
    # buckets, where a create is not exclusive.
    module, file_system = "gcsfs.core", "GCSFileSystem"
    minimums: ClassVar[Mapping[str, tuple[int, ...]]] = {"gcsfs": (2024, 12)}
    spellings: ClassVar[Mapping[str, str]] = {
        "google_application_credentials": "token",
        "google_service_account": "token",
        "google_service_account_path": "token",
        "service_account": "token",
    }
    advice: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("service_account_key", "google_service_account_key"), "write token=json.loads(key)"
        ),
        "google_skip_signature": "write token='anon'",
    }
    endpoints = ("STORAGE_EMULATOR_HOST",)
    reach = "endpoint_url (or STORAGE_EMULATOR_HOST)"
    permissions = (
        "it takes credentials with storage.objects.get, create, delete and list "
        "(role Storage Object User)"
    )

    def size(self, fs: Any, path: str, within: float) -> int:  # noqa: ANN401
        """Return an object's size: `info` would also look for a directory of that name."""
        bucket, key, _ = self.split(path)
        asked = {"json_out": True, "timeout": within}
        return int(fs.call("GET", "b/{}/o/{}", bucket, key, **asked)["size"])

    def replace(self, fs: Any, path: str, data: bytes, within: float) -> None:  # noqa: ANN401
        """Overwrite an object that no cache may keep: those of public buckets are kept for long."""
        uncached = {"cache_control": "no-store"}
        fs.pipe_file(path, data, fixed_key_metadata=uncached, timeout=within)

    def list(self, fs: Any, bucket: str, prefix: str, within: float) -> Iterator[Entry]:  # noqa: ANN401
        """Yield what lies directly under a prefix."""
        asked = {"prefix": prefix, "delimiter": "/", "maxResults": 5000}
        asked["fields"] = "items(name,size,updated),prefixes,nextPageToken"
        while True:
            page = fs.call("GET", "b/{}/o", bucket, json_out=True, timeout=within, **asked)
            yield from map(Entry, page.get("prefixes", ()))
            for each in page.get("items", ()):
                modified = dt.datetime.fromisoformat(each["updated"]).astimezone(dt.UTC)
                yield Entry(each["name"], int(each["size"]), modified)
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]


class Azure(Dialect):
    """Azure Blob Storage and Data Lake Storage."""

    scheme, extra = "abfs", "azure"
    module, file_system = "adlfs", "AzureBlobFileSystem"
    minimums: ClassVar[Mapping[str, tuple[int, ...]]] = {"adlfs": (2024, 12)}
    spellings: ClassVar[Mapping[str, str]] = {
        "azure_storage_account_name": "account_name",
        "azure_storage_account_key": "account_key",
        "azure_storage_sas_token": "sas_token",
        "azure_storage_sas_key": "sas_token",
        "azure_storage_client_id": "client_id",
        "azure_storage_client_secret": "client_secret",
        "azure_storage_tenant_id": "tenant_id",
    }
    advice: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("azure_skip_signature", "skip_signature"), "write anon=True"),
        "azure_storage_use_emulator": "write the emulator's connection_string",
    }
    endpoints = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME")
    reach = "account_name, account_host or connection_string"
    permissions = "it takes a role such as Storage Blob Data Contributor"

    def size(self, fs: Any, path: str, within: float) -> int:  # noqa: ANN401
        """Return an object's size."""
        return int(asyn.sync(fs.loop, self._size, fs, path, timeout=within))

    async def _size(self, fs: Any, path: str) -> Any:  # noqa: ANN401
        bucket, key, _ = self.split(path)
        async with fs.service_client.get_blob_client(bucket, key) as client:
            return (await client.get_blob_properties()).size

    def list(self, fs: Any, bucket: str, prefix: str, within: float) -> Iterator[Entry]:  # noqa: ANN401
        """Yield what lies directly under a prefix."""
        for each in asyn.sync(fs.loop, self._walk, fs, bucket, prefix, timeout=within):
            if "last_modified" in each:
                yield Entry(each.name, each.size, each.last_modified.astimezone(dt.UTC))
            else:
                yield Entry(each.name)

    async def _walk(self, fs: Any, bucket: str, prefix: str) -> Any:  # noqa: ANN401
        async with fs.service_client.get_container_client(bucket) as client:
            found = client.walk_blobs(name_starts_with=prefix, delimiter="/")
            return [each async for each in found]


DIALECTS: Mapping[str, Dialect] = {
    **dict.fromkeys(("s3", "s3a"), S3()),
    **dict.fromkeys(("gs", "gcs"), Gcs()),
    **dict.fromkeys(("abfs", "abfss", "az"), Azure()),
}
"""Scheme of a URL -> how to speak to that store."""


def _is_region(option: str) -> bool:
    return option.lower() in ("aws_region", "region", "aws_default_region", "region_name")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
