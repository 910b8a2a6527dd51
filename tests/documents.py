"""What the documents tell a reader to type: every block of shell or Python in them, command by command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

_BLOCK = re.compile(r"^```(sh|python)(?: (\S+))?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
# A line that bash reads on from: it ends in a backslash, a pipe or a conjunction.
_GOES_ON = re.compile(r"(\\|\||&&)$")


@dataclass(frozen=True)
class Step:
    """A command, a program, or a file that the reader is to write."""

    page: str
    line: int
    kind: str  # sh, python or file
    text: str
    path: str = ""  # of a file

    @property
    def at(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def steps(page: Path) -> list[Step]:
    return list(_steps(page.read_text(), str(page.relative_to(ROOT))))


def _steps(text: str, page: str) -> Iterator[Step]:
    for block in _BLOCK.finditer(text):
        language, path, content = block.groups()
        first = text.count("\n", 0, block.start()) + 2
        if path:
            yield Step(page, first, "file", content, path)
        elif language == "python":
            yield Step(page, first, "python", content)
        else:
            yield from (Step(page, first + line, "sh", command) for line, command in commands(content))


def commands(block: str) -> Iterator[tuple[int, str]]:
    """Each with the number of its first line in the block; comments behind it are bash's to leave out."""
    lines: list[str] = []
    for number, line in enumerate(block.splitlines()):
        if lines or (line.strip() and not line.lstrip().startswith("#")):
            lines.append(line)
        if lines and not _GOES_ON.search(line):
            yield number - len(lines) + 1, "\n".join(lines)
            lines = []
    assert not lines, f"a block ends in the middle of {lines}"
