"""Rows of Hugging Face datasets, given to builds; run where `datasets` is installed."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value

import jammi_files as jf

STORE = jf.connect(sys.argv[1], durability="os")
HOW = jf.External(producer_id="tests", params={})
ENV = jf.MaterializationEnv("1", jf.Device.cpu())
FEATURES = Features({"n": Value("int64"), "kind": ClassLabel(names=["odd", "even"])})


def published(given):
    """Return what became of rows given to a build, as the file holds it."""
    contract = {"descriptor": HOW, "env": ENV, "inputs": []}
    with STORE.build("docs", "ner", "model", "m", **contract) as out:
        out.write(given)
    return pq.read_table(out.info.parquet_path)


def refusal(given):
    try:
        published(given)
    except jf.InvalidInputError as error:
        return str(error)
    raise AssertionError("it was taken")


def main():
    """Every form, with what was selected, filtered and shuffled, and without rows."""
    columns = {"n": list(range(2500)), "kind": [n % 2 for n in range(2500)]}
    whole = Dataset.from_dict(columns, features=FEATURES)
    assert published(whole).to_pydict() == columns
    assert Dataset(published(whole)).features == FEATURES
    for given in (
        whole.select([7, 3, 5]),
        whole.filter(lambda row: row["n"] > 2490),
        whole.shuffle(seed=3),
        whole.sort("n", reverse=True),
        whole.with_format("numpy"),
        [whole.select([1]), whole.select([0])],
    ):
        parts = given if isinstance(given, list) else [given]
        expected = [row["n"] for part in parts for row in part.with_format(None)]
        assert published(given)["n"].to_pylist() == expected
    empty = published(whole.select([]))
    assert (empty.num_rows, empty.column_names) == (0, ["n", "kind"])
    streamed = whole.to_iterable_dataset()
    assert published(streamed).to_pydict() == columns
    assert published(streamed.filter(lambda row: row["n"] < 3))["n"].to_pylist() == [0, 1, 2]
    generated = IterableDataset.from_generator(lambda: iter([{"n": 1}, {"n": 2}]))
    assert published(generated).to_pydict() == {"n": [1, 2]}
    splits = DatasetDict({"train": whole, "test": whole.select([1])})
    assert refusal(splits) == "a DatasetDict is several tables; give one of 'train', 'test'"
    sys.stdout.write("all taken\n")


if __name__ == "__main__":
    main()
