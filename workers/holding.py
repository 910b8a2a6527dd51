"""A job's data, once on each node: in Ray's store, whose memory all of a node's processes look at together.

It comes there by itself when the first process of a node asks for it, and goes with the attempt.
"""

from __future__ import annotations

from typing import Any

import ray

from purlkit.errors import InvalidSpec
from purlkit.spec import JobSpec
from purlkit.training.data import Splits


def hold(splits: Splits, spec: JobSpec) -> Any:
    """A reference to the splits in main memory, as `ray.get` gives them to whoever works with them.

    Without the test split: nobody can look at what isn't there.
    """
    try:
        return ray.put(splits.without_test().to("cpu"))
    except TypeError as error:
        raise InvalidSpec(
            f"the images of {spec.data.name} can't be handed to another process: {str(error).splitlines()[0]}",
            at="/dataset/name",
            remedy="give their class a __reduce__ that leaves out open files and the like",
        ) from error
