"""Catalogs in buckets: many processes, every fault of a network, and stores that are no use."""

from __future__ import annotations

from collections import Counter

import pytest
from support.faults import HookedStorage
from support.invariants import check_invariants
from support.processes import run_together
from support.results import row
from support.rivals import append_words, count_up, journal, open_bucket
from support.roots import BucketRoots, LocalRoots, contents
from support.servers.backends import CARELESS, FAST, HONEST
from support.servers.controls import Chance

from jammi_files import root_format
from jammi_files.catalog import Catalog
from jammi_files.errors import StorageError

MANIFEST = "_catalog/manifest/"
PROCESSES, ROUNDS = 8, 40
MOST_PUTS = 1.2  # a commit


def puts_in(exchanges):
    """Return the manifests that clients tried to create."""
    return [one for one in exchanges.matching(key=MANIFEST) if one.method in ("PUT", "POST")]


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_processes_lose_no_update(server):
    """`B278`: 8 processes x 40 read-modify-write commits: 320 versions, and few creates in vain."""
    url, options = server.root()
    open_bucket(url, options).create_result_table(**row("t"))
    with server.log.counting() as seen:
        run_together(count_up, [(url, options, ROUNDS, PROCESSES)] * PROCESSES)
    catalog = open_bucket(url, options)
    commits = PROCESSES * ROUNDS
    assert catalog.get_result_table("t").row_count == commits
    assert catalog.log.versions() == list(range(1, commits + 2))
    writers = Counter(info.writer for info in catalog.history()[1:])
    assert sorted(writers.values()) == [ROUNDS] * PROCESSES
    assert commits <= len(puts_in(seen)) <= MOST_PUTS * commits
    check_invariants(catalog.storage)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("server", FAST, indirect=True)
def test_nothing_acknowledged_is_lost_or_done_twice(server, seed):
    """`B278`: a quarter of the changes fails in every way; each answer is kept to the letter.

    Done is done once, unknown once or not at all, and every other answer means not at all.
    """
    url, options = server.root()
    open_bucket(url, options).create_result_table(**row("t"))
    with server.faults.by_chance(Chance(0.25, seed, key=MANIFEST)):
        told = run_together(append_words, [(url, options, who, 8) for who in range(4)])
    server.faults.clear()
    catalog = open_bucket(url, options)
    words = Counter(journal(catalog))
    committed = {info.commit_id for info in catalog.history()}
    answers = [answer for each in told for answer in each]
    for word, outcome, commit_id in answers:
        if outcome == "CommitUnknownError":
            assert words[word] == (commit_id in committed)
        else:
            assert words[word] == (outcome == "done"), outcome
    assert words.keys() <= {word for word, _, _ in answers}
    assert sum(outcome == "done" for _, outcome, _ in answers) > len(answers) / 2
    assert catalog.log.versions() == list(range(1, words.total() + 2))
    check_invariants(catalog.storage)


@pytest.mark.parametrize("server", CARELESS, indirect=True)
def test_a_store_that_ignores_conditions_is_refused(server):
    """Before anything but a probe is written, and the probe is gone."""
    storage = BucketRoots(server).new()
    catalog = Catalog(storage)
    with pytest.raises(StorageError, match="overwrites an object that was to be created only if"):
        catalog.create_result_table(**row("t"))
    assert contents(storage) == {}
    with pytest.raises(StorageError, match="read the catalog only"), catalog.transaction():
        pass
    assert catalog.scan().num_rows == 0


@pytest.mark.parametrize("server", CARELESS, indirect=True)
def test_a_store_that_ignores_conditions_can_be_read(server, tmp_path):
    """A catalog that was copied there answers, and is refused when it would be written."""
    original = LocalRoots(tmp_path / "roots").new()
    Catalog(original).create_result_table(**row("t"))
    storage = BucketRoots(server).new()
    for key, data in contents(original).items():
        storage.replace(key, data or b"-")
    before = contents(storage)
    catalog = Catalog(storage)
    assert catalog.get_result_table("t").row_count == 0
    with pytest.raises(StorageError, match="overwrites"):
        catalog.update_result_table_status("t", "building", 1)
    assert contents(storage) == before


@pytest.mark.parametrize("server", FAST, indirect=True)
def test_a_proved_store_is_not_proved_again(server):
    """The root remembers where its creates are exclusive; a copy elsewhere is proved anew."""
    roots = BucketRoots(server)
    storage = roots.new()
    Catalog(storage).create_result_table(**row("t"))
    with server.log.counting() as seen:
        Catalog(storage).create_result_table(**row("u"))
    assert seen.count(key=root_format.PROBES) == 0
    other, options = server.root()
    for key, data in contents(storage).items():
        open_bucket(other, options).storage.replace(key, data)
    with server.log.counting() as seen:
        open_bucket(other, options).create_result_table(**row("v"))
    assert seen.count(key=root_format.PROBES) > 1


def _race(server):
    """Commit once between another commit's look and its create; return what is there of both."""
    url, options = server.root()
    rival = open_bucket(url, options)
    rival.create_result_table(**row("first"))
    storage = open_bucket(url, options).storage
    struck = []

    def strike(moment, kind, key):
        if (moment, kind) == ("before", "create") and MANIFEST in key and not struck:
            struck.append(rival.create_result_table(**row("rival")))

    Catalog(HookedStorage(storage, strike)).create_result_table(**row("mine"))
    assert struck
    names = Catalog(storage).scan(columns=["table_name"]).column(0).to_pylist()
    return {"rival", "mine"} & set(names)


@pytest.mark.parametrize("server", HONEST, indirect=True)
def test_a_race_loses_nothing(server):
    """`B278`: both commits were acknowledged, both are there."""
    assert _race(server) == {"rival", "mine"}


@pytest.mark.parametrize("server", CARELESS, indirect=True)
def test_the_same_race_loses_an_update_where_conditions_are_ignored(server, monkeypatch):
    """What the proof is for: without it the rival's commit is acknowledged, and gone."""
    monkeypatch.setattr(root_format, "_prove_exclusive_create", lambda _: None)
    assert _race(server) == {"mine"}
