"""deploy/proxy/Caddyfile as it is, but for where things are."""

from __future__ import annotations

from pathlib import Path

CADDYFILE = Path(__file__).parent.parent / "deploy/proxy/Caddyfile"
UPSTREAM = "\t\tdynamic a {\n\t\t\tname api\n\t\t\tport 8000\n\t\t\trefresh 5s\n\t\t}\n"
# What Debian's and the image's program are called with, and a folder for their own files as HOME.
RUN = ("run", "--adapter", "caddyfile", "--config")


def caddyfile(*, published: str, inner: str, apis: list[str]) -> str:
    """Both doors by their URLs, and the hosts and ports of the APIs behind them."""
    text = CADDYFILE.read_text()
    for ours, here in {
        "\n:8000 {": f"\n{published} {{",
        "\n:8001 {": f"\n{inner} {{",
        UPSTREAM: f"\t\tto {' '.join(apis)}\n",
    }.items():
        assert text.count(ours) == 1, ours
        text = text.replace(ours, here)
    return text
