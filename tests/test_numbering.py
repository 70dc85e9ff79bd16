"""Which version is the newest, by listings that others may have made old."""

from __future__ import annotations

from jammi_files import numbering
from jammi_files.memory import MemoryStorage
from jammi_files.numbering import Numbering, key_of


def test_a_group_that_is_begun_after_its_listing(tmp_path, monkeypatch):
    """The groups are listed ahead: behind a last one that is full another may have begun since."""
    monkeypatch.setattr(numbering, "GROUP", 2)
    storage = MemoryStorage(f"memory://{tmp_path.name}")
    found = Numbering(storage)
    for number, newest in ((1, 1), (2, 2), (3, 3), (4, 4)):
        found.list_ahead()
        storage.create(key_of(number), b"version")
        assert found.newest() == newest
