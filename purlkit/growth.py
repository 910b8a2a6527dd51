"""How far a cluster may grow, as its operator writes it: `8x4,4x8+1` is 8 nodes of 4 CPUs, and 4 of 8 CPUs and a GPU.

Ray's own autoscaler knows it and tells nobody: neither over HTTP nor to who is connected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_GROUP = re.compile(r"([0-9]{1,5})x([0-9]{1,5})(?:\+([0-9]{1,3}))?", re.ASCII)


@dataclass(frozen=True)
class Group:
    """So many nodes, each with so much."""

    nodes: int
    cpus: int
    gpus: int


def parse(text: str) -> tuple[Group, ...]:
    """Raises ValueError with the remedy.

    >>> parse("8x4,4x8+1")
    (Group(nodes=8, cpus=4, gpus=0), Group(nodes=4, cpus=8, gpus=1))
    """
    groups = []
    for part in filter(None, text.replace(" ", "").split(",")):
        matched = _GROUP.fullmatch(part)
        if matched is None:
            raise ValueError("use COUNTxCPUS or COUNTxCPUS+GPUS for each kind of node, as 8x4,4x8+1")
        count, cpus, gpus = (int(number or 0) for number in matched.groups())
        groups.append(Group(count, cpus, gpus))
    return tuple(groups)
