"""A change under construction: what is undone leaves no trace, what is added twice counts once."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.results import row
from support.stored import record, segment

from jammi_files import Catalog
from jammi_files.draft import Draft
from jammi_files.manifest import Header
from jammi_files.rows import Row
from jammi_files.runs import Runs
from jammi_files.schema import SCHEMA
from jammi_files.snapshot import Snapshot

NAMES = "abcdef"
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "bulk", "mark"]), st.sampled_from(NAMES)),
    max_size=20,
)


def base():
    """Return a snapshot with one row in a segment and one inline."""
    inline = {"b": Row(record("b", 2), 2)}
    header = Header(version=5, commit_id="", operation="", committed_at=0, writer="")
    return Snapshot(header, Runs([segment([Row(record("a", 1), 1)])]), inline)


def live(draft):
    """Return the number in each live row, asked for one by one and in the draft's view."""
    found = {name: draft.get(name) for name in NAMES}
    assert {name: draft.view().get(name) for name in NAMES} == found
    return {name: got.record.row_count for name, got in found.items() if got is not None}


def take(draft, step, name, number):
    if step == "put":
        draft.put(record(name, number), "update")
    elif step == "delete" and draft.get(name) is not None:
        draft.put(draft.get(name).record, "delete", deleted=True)
    elif step == "bulk" and draft.get(name) is None:
        draft.add_run(segment([Row(record(name, number), 0)]).table.select(SCHEMA.names), "create")


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_draft_equals_a_dictionary(steps):
    """Whatever is put, deleted, added in bulk and undone, a draft is a dictionary."""
    draft, state, marks = Draft(base()), {"a": 1, "b": 2}, []
    for number, (step, name) in enumerate(steps, start=10):
        take(draft, step, name, number)
        if step == "put" or (step == "bulk" and name not in state):
            state[name] = number
        elif step == "delete":
            state.pop(name, None)
        elif step == "mark":
            marks.append((draft.mark(), dict(state)))
        assert live(draft) == state
    for mark, then in reversed(marks):
        draft.rollback(mark)
        assert live(draft) == then


@pytest.mark.parametrize("deleted", [False, True])
def test_columns_of_a_newer_library(deleted):
    """An update carries on what a newer library keeps of a row; a new row has none of it."""
    extra, header = {"owner": pa.array(["x"])}, base().header
    state = Snapshot(header, Runs([]), {"a": Row(record("a", 1), 1, deleted, extra)})
    draft = Draft(state)
    draft.put(record("a", 2), "update")
    assert draft.get("a").extra == (None if deleted else extra)


@pytest.mark.parametrize("where", ["catalog", "transaction"])
def test_a_change_that_raises_half_way(catalog, where):
    """`B275`: what a change had done before it raised is undone, beside changes that hold."""

    def half(draft):
        draft.put(record("half", 1), "create")
        raise LookupError

    catalog.create_result_table(**row("t"))
    if where == "catalog":
        with pytest.raises(LookupError):
            catalog.log.commit(half)
    else:
        with catalog.transaction() as tx:
            with pytest.raises(LookupError):
                tx._commit(half)
            tx.create_result_table(**row("u"))
    opened = Catalog.open(catalog.storage.root)
    assert opened.get_result_table("half") is None
    assert (opened.get_result_table("u") is not None) is (where == "transaction")
    catalog.create_result_table(**row("half"))
