"""Tenancy: how a tenant is spelt, and who sees and owns which row."""

from __future__ import annotations

import copy
import json
import pickle
import uuid

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_files.errors import InvalidInputError
from jammi_files.scope import Scope, TenantId

TEXT = "01906c83-d4c8-7e10-9c4f-3b6f7c5a8e9a"
OTHER = "11111111-2222-4333-8444-555555555555"
UUIDS = st.uuids().filter(lambda value: value.int != 0)

FORMS = {
    "hyphenated": str,
    "simple": lambda value: value.hex,
    "braced": lambda value: f"{{{value}}}",
    "urn": lambda value: value.urn,
    "object": lambda value: value,
}
NIL = uuid.UUID(int=0)


@pytest.mark.parametrize("form", FORMS)
@given(value=UUIDS)
def test_tenant_forms(form, value):
    """`B020`: every form of a UUID is kept as lower-case hyphenated text."""
    given_as = FORMS[form](value)
    assert TenantId(given_as) == str(value)
    if isinstance(given_as, str):
        assert TenantId(given_as.upper()) == str(value)


@pytest.mark.parametrize("form", FORMS)
def test_nil_tenant(form):
    """`B021`: the nil UUID is refused in every form, with the text of 0.32."""
    with pytest.raises(InvalidInputError, match=r"^tenant id must not be the nil UUID$"):
        TenantId(FORMS[form](NIL))


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "acme",
        TEXT[:-1],
        TEXT + "0",
        f" {TEXT}",
        f"{TEXT}\n",
        f"{{{TEXT}",
        f"urn:uuid:{uuid.UUID(TEXT).hex}x",
        TEXT.replace("-", "_"),
        "01906c83d4c8-7e10-9c4f-3b6f7c5a8e9a",
        "\u0660" * 32,
        None,
        7,
        b"01906c83d4c87e109c4f3b6f7c5a8e9a",
    ],
)
def test_malformed_tenant(bad):
    """`B022`: what is no UUID is refused, and the message quotes it with a reason."""
    with pytest.raises(InvalidInputError) as caught:
        TenantId(bad)
    assert str(caught.value).startswith(f"tenant id '{bad}': ")


def test_tenant_is_plain_text():
    """`B020`: a tenant prints, hashes, compares and serialises as its stored text."""
    tenant = TenantId(TEXT.upper())
    assert f"{tenant}" == TEXT
    assert {TEXT: 1}[tenant] == 1
    assert json.dumps([tenant]) == f'["{TEXT}"]'
    assert TenantId(tenant) is tenant


@pytest.mark.parametrize(
    "scope", [Scope(), Scope(TenantId(TEXT)), Scope(TenantId(TEXT), admin=True)]
)
def test_scope_travels(scope):
    """A scope and its tenant pickle and copy as the values they are."""
    for again in (pickle.loads(pickle.dumps(scope)), copy.deepcopy(scope)):  # noqa: S301 - our own bytes
        assert again == scope
        assert hash(again) == hash(scope)
        assert type(again.tenant) is type(scope.tenant)


@pytest.mark.parametrize(
    ("tenant", "admin", "seen"),
    [
        (None, False, {None}),
        (TEXT, False, {None, TEXT}),
        (OTHER, False, {None, OTHER}),
        (None, True, {None, TEXT, OTHER}),
        (TEXT, True, {None, TEXT, OTHER}),
    ],
)
def test_who_sees_what(tenant, admin, seen):
    """`B166`: own and GLOBAL rows are seen, unbound only GLOBAL ones, by admin every row."""
    scope = Scope(TenantId(tenant) if tenant else None, admin=admin)
    assert {owner for owner in (None, TEXT, OTHER) if scope.sees(owner)} == seen


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("tenant", [None, TEXT, OTHER])
def test_who_owns_what(tenant, admin):
    """`B144`: a handle owns the rows of exactly its tenant (unbound: GLOBAL); admin adds none."""
    scope = Scope(TenantId(tenant) if tenant else None, admin=admin)
    assert [owner for owner in (None, TEXT, OTHER) if scope.owns(owner)] == [tenant]


@given(
    st.lists(st.sampled_from([None, TEXT, OTHER])),
    st.sampled_from([None, TEXT, OTHER]),
    st.booleans(),
)
def test_expression_equals_predicate(owners, tenant, admin):
    """`B166`: the Arrow expression admits the rows that the predicate admits, no other."""
    scope = Scope(TenantId(tenant) if tenant else None, admin=admin)
    plain = pa.table({"row": range(len(owners)), "tenant_id": pa.array(owners, pa.string())})
    encoded = plain.set_column(1, "tenant_id", plain["tenant_id"].dictionary_encode())
    expected = [row for row, owner in enumerate(owners) if scope.sees(owner)]
    for table in (plain, encoded):
        expression = scope.visible()
        kept = table if expression is None else table.filter(expression)
        assert kept["row"].to_pylist() == expected


def test_every_owned_row_is_visible():
    """`B144`: nothing can be deleted that cannot be read."""
    for tenant in (None, TEXT, OTHER):
        for admin in (False, True):
            scope = Scope(TenantId(tenant) if tenant else None, admin=admin)
            assert all(scope.sees(o) for o in (None, TEXT, OTHER) if scope.owns(o))
