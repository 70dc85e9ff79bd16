"""One small result, for tests whose subject is not what is built but how safely."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jammi_files import Device, External, InputAnchor, MaterializationEnv, ResultStore
from jammi_files.catalog import Catalog
from jammi_files.signing import HmacSigner, HmacVerifier, Signing

DESCRIPTOR = External(producer_id="tests", params={"seed": "1"})
ENV = MaterializationEnv(engine_version="0.32.0", device=Device.cpu())
INPUTS = (InputAnchor.mutable_version("docs", 7),)
DATA = pa.table({"id": ["a", "b", "c"], "score": [0.5, 0.25, 1.0]})
CONTRACT: dict[str, Any] = {"descriptor": DESCRIPTOR, "env": ENV, "inputs": INPUTS}
TABLE = ("docs", "classification", "model", "org/model")


def build(store: ResultStore, **also: Any) -> str:
    """Build one ready result and return its name."""
    with store.build(*TABLE, **CONTRACT, **also) as out:
        out.write(DATA)
    return out.table_name


SECRET = b"sixteen bytes and more"
SIGNING = Signing(HmacSigner(SECRET), (HmacVerifier(SECRET),))


def build_signed(store: ResultStore) -> str:
    """Build one ready and signed result, of a source that `require_signed` knows."""
    with ResultStore(store.catalog, SIGNING).build("signed", *TABLE[1:], **CONTRACT) as out:
        out.write(DATA)
    return out.table_name


def require_signed(catalog: Catalog) -> None:
    """Require that no result that was to be signed is ready without a good signature."""
    store = ResultStore(catalog.as_admin(), SIGNING)
    for record in store.catalog.find_result_tables("signed"):
        if record.is_ready:
            assert store.verify_materialization(record.table_name).ok, record.table_name


def write(store: ResultStore, table_name: str) -> None:
    """Write the data object of a row that is building."""
    with store.open_writer(table_name, DATA.schema) as out:
        out.write(DATA)


def finalize(store: ResultStore, table_name: str) -> None:
    """Attest what `write` wrote and make the row ready."""
    store.finalize_with_manifest(table_name, DATA.num_rows, DESCRIPTOR, ENV, INPUTS)


def row(name: str, **also: Any) -> dict[str, Any]:
    """Return the arguments of `create_result_table` for a row that only its name matters of."""
    fields = {"table_name": name, "source_id": "docs", "model_id": "org/model"}
    return {**fields, "task": "classification", "parquet_path": f"{name}.parquet", **also}


def rows(*names: str, **also: Any) -> pa.Table:
    """Return several such rows for `create_result_tables`."""
    return pa.Table.from_pylist([row(name, **also) for name in names])
