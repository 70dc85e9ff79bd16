"""Plans that were found by searching and are kept: each by name, smaller than any seed's."""

from __future__ import annotations

from support.simulation.plan import ClientPlan, Fault, Plan, Step, Trouble

MANIFEST = "create bucket/root/_catalog/manifest/"
SEGMENT = "create bucket/root/_catalog/segments/"
DATA = "create bucket/root/docs"

_ROOMY = (("INLINE_ROWS", 128), ("FAN_OUT", 8), ("MERGE_IN_COMMIT_ROWS", 8192))
_TINY = (("INLINE_ROWS", 1), ("FAN_OUT", 2), ("MERGE_IN_COMMIT_ROWS", 2))

_WORD = "append", 0.9
"""An append that makes no row of its own."""
_ROW = "append", 0.1
"""An append that makes a row of its own."""
_VACUUM = "vacuum", 0.005
"""A vacuum without grace that keeps the newest version alone."""


def _wait(seconds: float) -> tuple[str, float]:
    """Return a step of so many seconds."""
    chance = 0.0
    while 0.01 * 10 ** (7 * chance) < seconds:
        chance += 0.001
    return "wait", chance


def _client(
    process: int, *steps: tuple[str, float], troubles: tuple[Trouble, ...] = ()
) -> ClientPlan:
    numbered = tuple(Step(n, kind, chance) for n, (kind, chance) in enumerate(steps))
    return ClientPlan(f"p{process}t0", process, numbered, troubles)


def _plan(*clients: ClientPlan, knobs: tuple[tuple[str, int], ...] = _ROOMY) -> Plan:
    return Plan(0, tuple(each.process for each in clients), clients, knobs)


EMPTIED = _plan(
    _client(
        0,
        _WORD,
        _WORD,
        troubles=(Trouble(2, Fault.UNANSWERED, 0.9, MANIFEST),),
    ),
    _client(1, _wait(4), _WORD, _VACUUM),
)
"""A version is made, its answer lost; when its writer reads it back, vacuum has emptied it."""

EMPTIED_AND_SENT_TWICE = _plan(
    _client(
        0,
        _WORD,
        _WORD,
        troubles=(Trouble(2, Fault.RESENT, 0.9, MANIFEST),),
    ),
    EMPTIED.clients[1],
)
"""The same; but the client library sends again, and is told that the version exists."""

DELAYED = _plan(
    _client(
        0,
        _WORD,
        _WORD,
        troubles=(Trouble(2, Fault.LATE, 0.5, MANIFEST, lost=4),),
    ),
)
"""A commit is given up while its request is on the way: it arrives when nobody waits any more."""

MERGED_TOO_LATE = _plan(
    _client(0, *[_ROW] * 6, troubles=(Trouble(6, Fault.PAUSE, 0.0, SEGMENT),)),
    _client(1, _wait(6), _VACUUM),
    knobs=_TINY,
)
"""A merge has written its segment and pauses; a vacuum deletes that, as no version lists it yet."""

COMMITTED_AFTER_THE_LISTING = _plan(
    _client(0, *[_ROW] * 5, troubles=(Trouble(3, Fault.PAUSE, 0.0, SEGMENT),)),
    _client(1, _wait(9.6), _VACUUM),
    knobs=_TINY,
)
"""A segment is listed by vacuum before any version lists it, and committed before vacuum's own."""

READY_AFTER_THE_JUDGEMENT = _plan(
    _client(0, ("build", 0.9), troubles=(Trouble(1, Fault.PAUSE, 0.45, DATA),)),
    _client(1, ("overtake", 0.67), troubles=(Trouble(1, Fault.SLOW, 0.3, MANIFEST),)),
)
"""A build falls silent for longer than its lease, and goes on while recovery fails its row."""

_CLAIM = ("claim", 0.3)

REFUSED_BESIDE_A_LOST_COMMIT = Plan(
    33303761,
    (1, 0),
    (
        _client(0, _CLAIM, troubles=(Trouble(1, Fault.LATE, 0.5754227939881055, MANIFEST, 5),)),
        ClientPlan(
            "p0t1",
            0,
            (
                Step(0, "bulk", 0.7723519662277779),
                Step(1, "append", 0.2923766368099793),
                Step(2, "claim", 0.2672279886421578),
            ),
            (),
        ),
    ),
    (("INLINE_ROWS", 128), ("FAN_OUT", 2), ("MERGE_IN_COMMIT_ROWS", 8192)),
)
"""Two threads claim one name in one version, which is given up: nobody has the name."""

FIRST_VERSION_LISTED_LATE = Plan(
    33355485,
    (0, 1),
    (
        _client(
            0,
            ("overtake", 0.01045099598989574),
            troubles=(
                Trouble(1, Fault.UNAVAILABLE, 0.46601771865281727),
                Trouble(5, Fault.RESENT, 0.13399001222980333),
            ),
        ),
        _client(1, ("build", 0.17777955991106842)),
    ),
    (("INLINE_ROWS", 128), ("FAN_OUT", 2), ("MERGE_IN_COMMIT_ROWS", 6)),
    stale_listings=19.705029616999266,
)
"""Recovery lists the side object of the first build, and not yet the version that has its row."""

TOMBSTONE_MERGED_AT_ONCE = Plan(
    33389892,
    (1, 0, 0, 0),
    (
        _client(0, ("append", 0.62), ("delete", 0.64)),
        ClientPlan(
            "p0t1",
            0,
            (Step(0, "recover", 0.06), Step(1, "claim", 0.86), Step(2, "append", 0.38)),
            (),
        ),
        _client(3, ("append", 0.94), ("claim", 0.64), ("claim", 0.74)),
    ),
    (("INLINE_ROWS", 2), ("FAN_OUT", 2), ("MERGE_IN_COMMIT_ROWS", 6)),
)
"""One version deletes a row and merges every segment: neither row nor tombstone is left in it."""

CASES = {
    "emptied": EMPTIED,
    "emptied, sent twice": EMPTIED_AND_SENT_TWICE,
    "delayed": DELAYED,
    "merged too late": MERGED_TOO_LATE,
    "committed after the listing": COMMITTED_AFTER_THE_LISTING,
    "ready after the judgement": READY_AFTER_THE_JUDGEMENT,
    "tombstone merged at once": TOMBSTONE_MERGED_AT_ONCE,
    "refused beside a lost commit": REFUSED_BESIDE_A_LOST_COMMIT,
    "first version listed late": FIRST_VERSION_LISTED_LATE,
}
