"""From a command line to a spec."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from purlkit.cli import app
from purlkit.cli.output import percent, printable, size
from purlkit.cli.specs import check_whole, spec_of
from purlkit.cli.watch import sparkline, standings
from purlkit.errors import InvalidSpec
from purlkit.spec import JobSpec


def test_flags_go_where_they_belong() -> None:
    flags = {"model": "mlp", "sparsity": 0.9, "baselines": ["lamp", "erk"], "runners": 4, "seed": 0, "name": None}

    spec = spec_of(None, flags, [], ["team=vision"])

    assert spec == {
        "model": {"name": "mlp"},
        "targets": {"sparsity": 0.9},
        "baselines": ["lamp", "erk"],
        "resources": {"env_runners": 4},
        "search": {"lookahead": 4},
        "seed": 0,
        "labels": {"team": "vision"},
    }
    JobSpec.model_validate(spec)


def test_every_command_takes_json() -> None:
    def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
        for name, one in group.commands.items():
            yield from commands(one, f"{path} {name}") if hasattr(one, "commands") else [(f"{path} {name}", one)]

    every = dict(commands(typer.main.get_command(app.purl()), "purl"))

    assert {"purl watch", "purl weights convert", "purl sweep submit"} <= every.keys()
    assert [name for name, one in every.items() if not any("--json" in param.opts for param in one.params)] == []


def test_what_is_missing_is_said_in_the_words_of_the_command_line() -> None:
    for targets in (None, {}, {"accuracy": 0.9}):
        with pytest.raises(InvalidSpec, match="--sparsity"):
            check_whole({"model": {"name": "mlp"}, "targets": targets})
    with pytest.raises(InvalidSpec, match="--model"):
        check_whole({"targets": {"sparsity": 0.9}})
    check_whole({"model": {"name": "mlp"}, "targets": {"flops": 0.5}})


def test_the_race_is_told_with_the_best_first() -> None:
    field = [
        {"method": "purl", "variant": "best", "select_accuracy": 0.448, "goes_on": True},
        {"method": "lamp", "variant": None, "select_accuracy": 0.884, "goes_on": False},
    ]

    told = standings({"target": 0.9, "epochs": 1, "of_epochs": 10, "candidates": field})

    assert told == ["race at 90.0%: after 1 of 10 epochs", " 88.4% lamp (out)", " 44.8% purl best"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spec.yaml", "model: {name: mlp}\ntargets: {sparsity: 0.5}\nsearch: {retrain: {epochs: 3}}"),
        ("spec.json", '{"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}, "search": {"retrain": {"epochs": 3}}}'),
    ],
)
def test_a_file_then_flags_then_sets(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    spec = spec_of(file, {"sparsity": 0.8}, ["search.retrain.epochs=2", "search.reward=cubic", "stages=[0.5,0.8]"], [])

    assert spec["model"] == {"name": "mlp"}
    assert spec["targets"] == {"sparsity": 0.8}
    assert spec["search"] == {"retrain": {"epochs": 2}, "reward": "cubic"}
    assert spec["stages"] == [0.5, 0.8]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "neither JSON nor YAML"),
        ("a.yaml", "a: [", "neither JSON nor YAML"),
        ("a.yaml", "- 1", "holds no spec"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    with pytest.raises(InvalidSpec, match=said):
        spec_of(file, {}, [], [])


def test_what_makes_no_sense_says_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="give --model and --sparsity"):
        spec_of(None, {}, [], [])
    with pytest.raises(InvalidSpec, match="write --set name=value"):
        spec_of(None, {"model": "mlp"}, ["seed"], [])
    with pytest.raises(InvalidSpec, match="leads through a value"):
        spec_of(None, {"model": "mlp"}, ["model.name.x=1"], [])
    with pytest.raises(InvalidSpec, match="can't be read"):
        spec_of(tmp_path / "missing.yaml", {}, [], [])


def test_numbers_as_a_reader_wants_them() -> None:
    assert (percent(0.98765, 2), percent(None)) == ("98.77%", "")
    assert [size(n) for n in (0, 999, 1_500, 77_072_000)] == ["0 B", "999 B", "1.5 kB", "77.1 MB"]
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert len(sparkline([0.5] * 100)) == 40


def test_what_others_say_does_not_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\rc") == "a�[2Jb�c"


def test_help_needs_neither_torch_nor_the_client() -> None:
    code = (
        "import sys; from purlkit.cli.app import purl\n"
        "try: purl()(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'httpx', 'pydantic', 'rich', 'yaml') if m in sys.modules])"
    )

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.splitlines()[-1] == "[]"
