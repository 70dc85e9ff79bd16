"""Which results descend from which, for many questions at once and without quadratic work.

A chosen set of results gets a bit each; one walk from children to parents then gives every ancestor
the bits of all that descend from it. So a question costs one look at an integer, and a walk costs
one operation per edge for every machine word of bits, whatever the shape of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from jammi_files.known import Known, Rows
from jammi_files.known_rows import links_to
from jammi_files.lineage import inputs_first


class Descent:
    """The ancestors of some results, each looked up once."""

    def __init__(self, rows: Rows, results: Iterable[Known]) -> None:
        """Climb from ``results`` to all that they were made from.

        Raises:
            DependencyCycleError: one of them is its own ancestor.
        """
        waiting = list(results)
        seen = {known.table_name for known in waiting}
        above: dict[str, list[Known]] = {}
        is_ordered = True
        for known in waiting:  # grows as it goes
            parents = above[known.table_name] = list(rows.parents(known))
            for parent in parents:
                is_ordered = is_ordered and parent.age < known.age
                if parent.table_name not in seen:
                    seen.add(parent.table_name)
                    waiting.append(parent)
        if is_ordered:  # as nearly always where the store made the rows
            waiting.sort(key=_age)
            order = [known.table_name for known in waiting]
        else:
            order = inputs_first(links_to(above), above)
        self._index = {name: position for position, name in enumerate(order)}
        self._parents = [
            [self._index[parent.table_name] for parent in above[name]] for name in order
        ]

    def spread(self, bits: Mapping[str, int]) -> Callable[[str], int]:
        """Return what gives for a name the bits of all that it is or that descend from it.

        ``bits`` gives the bits of some of the results; what is no ancestor of these has none.
        """
        held = [0] * len(self._parents)
        for name, own in bits.items():
            held[self._index[name]] = own
        for position in range(len(held) - 1, -1, -1):
            found = held[position]
            if found:
                for parent in self._parents[position]:
                    held[parent] |= found
        held.append(0)
        index, nowhere = self._index, len(held) - 1
        return lambda name: held[index.get(name, nowhere)]


def _age(known: Known) -> tuple[int, str]:
    return known.age
