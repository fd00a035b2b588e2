"""Cycles in a graph of transactions, whose edges all but never lead back in time.

To close a cycle, an edge from an earlier node to a later one needs another that leads back. So only the stretches of
nodes that edges back in time span are looked at, by Tarjan's strongly connected components; in a sound history there
are none, and a million nodes cost one pass over their edges.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

Edges = Mapping[int, Sequence[int]]


def components(edges: Edges) -> list[list[int]]:
    """Strongly connected components of more than one node. Nodes are numbered in the order of time."""
    spans = sorted((target, source) for source, targets in edges.items() for target in targets if target < source)
    found: list[list[int]] = []
    for low, high in _merged(spans):
        found += _tarjan({node: edges[node] for node in range(low, high + 1) if node in edges}, low, high)
    return found


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in spans:
        if merged and low <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def _tarjan(edges: Edges, low: int, high: int) -> list[list[int]]:
    """Without recursion; nodes outside of `low`…`high` are on no cycle."""
    index: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = lowest[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if not low <= target <= high:
                    continue
                if target not in index:
                    index[target] = lowest[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(edges.get(target, ()))))
                    break
                if target in on_stack:
                    lowest[node] = min(lowest[node], index[target])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == index[node]:
                    component = []
                    while True:
                        one = stack.pop()
                        on_stack.discard(one)
                        component.append(one)
                        if one == node:
                            break
                    if len(component) > 1:
                        found.append(component)
    return found


def shortest_cycle(edges: Edges, component: Iterable[int]) -> list[int]:
    """A shortest cycle through the earliest node of a component."""
    own = set(component)
    start = min(own)
    came_from: dict[int, int] = {}
    todo = deque([start])
    while todo:
        node = todo.popleft()
        for target in edges.get(node, ()):
            if target == start:
                cycle = [node]
                while cycle[-1] != start:
                    cycle.append(came_from[cycle[-1]])
                return cycle[::-1]
            if target in own and target not in came_from:
                came_from[target] = node
                todo.append(target)
    raise ValueError("a component has a cycle")
