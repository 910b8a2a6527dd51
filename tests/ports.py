"""Ports for servers that have to be told theirs before they start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

# Ray's workers take those below.
FIRST = 20_000
# What the kernel gives to whoever asks for any port, each client among them: on a busy machine a server takes half a
# minute until it listens, and others ask thousands of times meanwhile.
RANGE_OF_THE_KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """By chance, so that two test runs beside each other hardly ever choose the same."""
    end = max(int(RANGE_OF_THE_KERNEL.read_text().split()[0]), FIRST + 1000)
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(range(FIRST, end), end - FIRST):
            with suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError(f"no {count} free ports from {FIRST} to {end}")
