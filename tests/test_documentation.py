"""What the documents say about the program is true of it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from api import errors
from api.codes import CODES
from purlkit.recipes import recipes
from services.settings import Settings
from tools import reference

ROOT = Path(__file__).parent.parent


def test_every_setting_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `(PURL_\w+)` \|", (ROOT / "docs/settings.md").read_text(), flags=re.MULTILINE)

    assert sorted(documented) == sorted(f"PURL_{field.name.upper()}" for field in fields(Settings))


def test_the_reference_is_what_the_code_says() -> None:
    stale = [path.name for path, text in reference.pages().items() if not path.exists() or path.read_text() != text]

    assert stale == [], f"write docs/reference/{', '.join(stale)} anew: .venv/bin/python -m tools.reference"


def test_every_make_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)\b", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

    assert {"demo", "test", "serve"} <= named <= targets


def test_every_command_in_the_prose_exists() -> None:
    """Of make, purl and python -m."""
    purl = re.findall(r"^## `purl (.+)`$", (ROOT / "docs/reference/cli.md").read_text(), flags=re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    unknown, seen = [], 0
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for program, rest in re.findall(r"`(?:\w+=\S+ )?(make|purl|python -m) ([^`]+)`", page.read_text()):
            name, seen = rest.split()[0], seen + 1
            known = {
                "make": name in targets or "=" in name,
                "purl": any(rest.startswith(one) for one in (*purl, "sweep", "--help", "COMMAND")),
                "python -m": name == "pytest"
                or any((ROOT / name.replace(".", "/")).parent.glob(f"{name.split('.')[-1]}*")),
            }[program]
            if not known:
                unknown.append(f"{page.relative_to(ROOT)}: {program} {rest}")

    assert seen > 50
    assert unknown == []


def test_every_file_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"\b((?:purlkit|services|workers|api|docs|tests|examples|deploy|benchmarks)/[\w./-]*\w)", readme)

    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_link_within_the_documents_leads_somewhere() -> None:
    broken = []
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose):
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists() or (heading and heading not in headings(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")

    assert broken == []


def headings(page: Path) -> list[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_every_recipe_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "docs/recipes.md").read_text(), flags=re.MULTILINE)

    assert documented == list(recipes())


def test_every_test_that_holds_a_promise_exists() -> None:
    promised = (ROOT / "docs/reliability.md").read_text() + (ROOT / "docs/security.md").read_text()
    named = re.findall(r"`([\w/]+\.py)((?:::\w+)+)`", promised)

    assert len(named) > 80
    missing = [
        path + names
        for path, names in named
        for name in names.split("::")[1:]
        if not re.search(rf"^ *(?:def|class) {name}\b", (ROOT / "tests" / path).read_text(), flags=re.MULTILINE)
    ]
    assert missing == []


def test_every_problem_has_a_code_of_the_table_and_every_code_has_a_problem() -> None:
    """Read off the sources: what is raised by name, and the errors that the API turns into problems."""
    raised = set(re.findall(r'(?:Problem\(\s*\d{3},|blame_(?:field|parameter)\()\s*"(\w+)"', sources("api")))
    refused = set(re.findall(r'^    code = "(\w+)"$', sources("services", "purlkit"), flags=re.MULTILINE))
    framework = {code for code, _ in errors.FRAMEWORK.values()} | {"head_too_large", "too_many_connections"}

    assert raised | framework <= set(CODES)
    assert set(CODES) <= raised | framework | refused
    assert {code for code in refused if code not in CODES} == NEVER_ANSWERED


# Errors of a worker or of the program itself, which reach a caller in a job's `error` or not at all.
NEVER_ANSWERED = {
    "error",
    "service_error",
    "unreachable_flops",
    "unreachable_sparsity",
    "collapsed_layer",
    "threshold_too_high",
    "missing_data",
    "missing_package",
    "weights_dont_fit",
    "shape_mismatch",
    "not_enough_data",
    "not_enough_resources",
    "search_stuck",
    "environment_failed",
    "verification_failed",
    "ray_unreachable",
    "nodes_did_not_come",
    "data_unreachable",
    "cache_too_small",
    "cache_unusable",
    "out_of_memory",
    "disk_full",
    "diverged",
    "code_mismatch",
    "cannot_export",
    "invalid_key",
    # The client's own.
    "problem",
    "unreachable",
    "download_damaged",
    "job_did_not_succeed",
    "not_yet",
}


def test_the_guide_to_the_api_lists_every_code_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (.+) \|$", (ROOT / "docs/api.md").read_text(), flags=re.MULTILINE)

    assert {code: (int(status), when) for status, code, when in rows} == CODES
    assert [(status, code) for status, code, _ in rows] == sorted((str(s), code) for code, (s, _) in CODES.items())


def test_the_statuses_of_the_table_are_those_that_are_answered() -> None:
    for kind, status in errors.STATUS.items():
        assert CODES[kind.code][0] == status
    for status, code in re.findall(r'Problem\(\s*(\d{3}),\s*"(\w+)"', sources("api")):
        assert CODES[code][0] == int(status)


def sources(*packages: str) -> str:
    return "\n".join(path.read_text() for package in packages for path in sorted((ROOT / package).rglob("*.py")))
