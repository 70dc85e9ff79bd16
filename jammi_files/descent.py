"""Which results descend from which, for many questions at once and without quadratic work.

A chosen set of results gets a bit each; one walk from children to parents then gives every ancestor
the bits of all that descend from it. So a question costs one look at an integer, and a walk costs
one operation per edge for every machine word of bits, whatever the shape of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from jammi_files.known import Known
from jammi_files.lineage import inputs_first
from jammi_files.schema import AnchorKind


class Descent:
    """Some results, with all of their ancestors among them."""

    def __init__(self, results: Iterable[Known], above: Mapping[str, list[Known]]) -> None:
        """Take results and the parents of each; every parent is a result too.

        Raises:
            DependencyCycleError: one of them is its own ancestor.
        """
        self.order = order_of(results, above)
        """The names of all, each after its parents."""
        self._above = above

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.order)}

    @cached_property
    def _parents(self) -> list[list[int]]:
        index = self._index
        return [[index[parent.table_name] for parent in self._above[name]] for name in self.order]

    def spread(self, bits: Mapping[str, int]) -> Callable[[str], int]:
        """Return what gives for a name the bits of all that it is or that descend from it.

        ``bits`` gives the bits of some of the results; what is no ancestor of these has none.
        """
        held = [0] * (len(self._parents) + 1)
        for name, own in bits.items():
            held[self._index[name]] = own
        for position in range(len(self._parents) - 1, -1, -1):
            found = held[position]
            if found:
                for parent in self._parents[position]:
                    held[parent] |= found
        index, nowhere = self._index, len(held) - 1
        return lambda name: held[index.get(name, nowhere)]


def climb(
    results: Iterable[Known], parents: Callable[[Known], list[Known]]
) -> dict[str, tuple[Known, list[Known]]]:
    """Return results and all of their ancestors, nearest first, each with its parents."""
    waiting = list(results)
    found: dict[str, tuple[Known, list[Known]]] = {}
    seen = {known.table_name for known in waiting}
    for known in waiting:  # grows as it goes
        above = parents(known)
        found[known.table_name] = known, above
        for parent in above:
            if parent.table_name not in seen:
                seen.add(parent.table_name)
                waiting.append(parent)
    return found


def order_of(results: Iterable[Known], above: Mapping[str, list[Known]]) -> list[str]:
    """Return the names of the results, each after its parents.

    Raises:
        DependencyCycleError: there is no such order.
    """
    by_age = sorted(results, key=_age)
    for known in by_age:
        if any(parent.age >= known.age for parent in above[known.table_name]):
            kind = AnchorKind.RESULT_DIGEST
            links = {name: [(each.table_name, kind) for each in p] for name, p in above.items()}
            return inputs_first(links, links)
    return [known.table_name for known in by_age]  # as nearly always where the store made the rows


def _age(known: Known) -> tuple[int, str]:
    return known.age
