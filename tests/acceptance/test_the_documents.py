"""Every command of the documents is run against the real service, or stands in a table here with the reason why not.

Two jobs are run, as small as jobs can be: the one that the quick start submits, which all pages share, and that of a
package and weights of one's own. Others that a page submits are taken in, and cancelled when it has been read.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.acceptance.running import JOB_SECONDS, ROOT, RunningService, serving
from tests.documents import Step, pages, steps

pytestmark = pytest.mark.acceptance

# Commands, by how they begin, that another test runs: the test, or the file whose whole business it is.
RUN_BY = {
    "make serve": "acceptance/test_the_documents.py::service",
    "make demo": "acceptance/test_the_demo.py::test_it_prints_its_table_and_verdict_and_leaves_the_checkpoint",
    "purl doctor": "integration/test_doctor.py::test_the_command_says_all_and_its_exit_code_that_there_is_a_fault",
    "purl check --model resnet18 --dataset image-folder": "unit/test_image_folders.py",
    "deploy/secrets.sh": "integration/test_deploy_compose.py::test_every_secret_lies_in_a_file_that_the_script_makes",
    "python -m services.backup load": "integration/test_backup.py",
    "python -m services keys": "security/test_keys.py::test_makes_lists_rotates_and_revokes",
    "ray start": "acceptance/test_on_a_cluster.py::test_a_job_runs_from_images_in_s3_to_checkpoint",
    "export PURL_RAY_": "acceptance/test_on_a_cluster.py::service",
    "from purlkit.client import PurlClient": "integration/test_the_examples.py::test_the_quick_start",
    "import purlkit\n\nresult = purlkit.search(": "integration/test_the_examples.py::test_the_library_needs_no_service",
}

# Commands that can't be run here, or not in the time of a test. Those of containers are looked at below.
NOT_HERE = {
    "make test": "it is what runs this",
    "make test-long": "it takes an hour",
    "make chaos": "it takes hours; its short form is run file by file",
    "make cluster-test": "it takes an hour and network namespaces",
    "make fuzz": "it takes ten minutes; make test sends a tenth of it",
    "make lint": "whoever lands a change runs it: .ci/run",
    "make format": "it would change the checkout",
    ".venv/bin/python -m pytest": "it is what runs this",
    "python -m benchmarks.": "each takes minutes; tests/unit/test_benchmarks.py tries their parts",
    ". .venv/bin/activate": "tests run in that environment already",
    "docker compose": "no Docker",
    "deploy/secrets.sh && docker compose": "no Docker",
    "install --directory --mode 777 backup": "belongs to the containers' backup",
    "kubectl": "no Kubernetes",
    "purl submit --model digits-resnet --sparsity 0.9 --runners 8": "no cluster of eight CPUs",
}

# What makes a job as small as a job can be: real in every part, and over in seconds.
SMALL = " ".join(
    f"--set {setting}"
    for setting in (
        "model.weights.train.epochs=2",
        "search.episodes=2",
        "search.greedy_episodes=1",
        "search.retrain.images=100",
        "fine_tune.epochs=1",
        "race.seeds=1",
        "resources.env_runners=1",
        'baselines=["global"]',
    )
)

# Reads the documents' commands in a shell where the service is another than theirs, and jobs are small. The same words
# submit one job: pages share it. `race.budget` only says how long the race of a real job may be.
PRELUDE = r"""
set -euo pipefail
shopt -s inherit_errexit
purl() {
    if [ "$1" != submit ]; then command purl "$@"; return; fi
    local words="$*" known
    words=${words% --set race.budget=100000}
    known="$KNOWN/$(echo "$words" | sha256sum | cut -d ' ' -f 1)"
    if [ ! -e "$known" ]; then
        command purl "$@" $SMALL > "$known.new" || return
        mv "$known.new" "$known"
    fi
    cat "$known"
}
curl() {
    local arguments=()
    for argument in "$@"; do arguments+=("${argument//http:\/\/127.0.0.1:8000/$PURL_URL}"); done
    [[ " $* " == *" --fail "* ]] || arguments+=(--fail-with-body)
    command curl "${arguments[@]}"
}
pip() { command python -m pip "$@" -q --disable-pip-version-check --no-index --target "$SITE"; }
"""


def elsewhere(step: Step) -> str | None:
    """Which entry of the tables speaks of it: the longest, for `make test-long` begins with `make test`."""
    keys = [key for key in (*RUN_BY, *NOT_HERE) if step.text.startswith(key)]
    return max(keys, key=len, default=None)


ALL = {page.relative_to(ROOT).as_posix(): steps(page) for page in pages()}
# What a page does before it starts the service is done before this one starts.
BEFORE = {
    page: told[: next((n for n, step in enumerate(told) if step.text.startswith("make serve")), 0)]
    for page, told in ALL.items()
}
AFTER = {page: told[len(BEFORE[page]) :] for page, told in ALL.items()}


class Reader:
    """Types what a page says, in a folder that looks like the checkout and may be written to."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder, self.site = folder, site
        folder.mkdir()
        site.mkdir()
        (folder / "known").mkdir()
        for path in ROOT.iterdir():
            if path.name not in ("docs", "data") and not path.name.startswith("."):
                (folder / path.name).symlink_to(path)

    def environ(self, service: RunningService | None = None) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "KNOWN": str(self.folder / "known"), "SITE": str(self.site), "SMALL": SMALL}
        own["PYTHONPATH"] = os.pathsep.join([str(self.site), str(ROOT)])
        if service is not None:
            own |= {"PURL_URL": service.url, "PURL_DATA_DIR": str(service.data_dir)}
        return {name: value for name, value in os.environ.items() if not name.startswith("PURL_")} | own

    def read(self, told: list[Step], service: RunningService | None = None) -> None:
        script = [PRELUDE, *(self._typed(step) for step in told if elsewhere(step) is None)]
        run = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=self.folder,
            env=self.environ(service),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * JOB_SECONDS,
        )
        assert run.returncode == 0, run.stdout[-5000:]

    def _typed(self, step: Step) -> str:
        if step.kind == "file":
            path = self.folder / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            return f"cat > {step.path} <<'END-OF-FILE'\n{step.text}END-OF-FILE"
        if step.kind == "python":
            return f"echo '+ {step.at}'\npython - <<'END-OF-PROGRAM'\n{step.text}END-OF-PROGRAM"
        return f"echo '+ {step.at}'\n{step.text}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("reader")
    return Reader(folder / "checkout", folder / "site")


@pytest.fixture(scope="module")
def service(reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """What `make serve` starts, after all that the pages have a reader do before."""
    for told in BEFORE.values():
        if any(elsewhere(step) is None for step in told):
            reader.read(told)
    path = os.pathsep.join([str(reader.site), *filter(None, [os.environ.get("PYTHONPATH")])])
    yield from serving(tmp_path_factory.mktemp("service") / "data", PYTHONPATH=path)


# Long until all pages have been seen to pass in one run, and their time is measured at rest. `make test` has the tables
# below, and jobs as these, a package's among them, in test_a_job.py and test_a_plugin.py.
@pytest.mark.long
@pytest.mark.parametrize(
    "page", [page for page, told in AFTER.items() if any(elsewhere(step) is None for step in told)]
)
def test_what_the_page_says_works(page: str, reader: Reader, service: RunningService) -> None:
    try:
        reader.read(AFTER[page], service)
    finally:
        for job in service.http.get("/jobs").json()["data"]:
            if job["state"] in ("queued", "running", "paused"):
                service.http.post(f"/jobs/{job['id']}/cancel")


@pytest.mark.long
def test_the_package_of_ones_own_was_pruned_with_its_weights_on_its_data(service: RunningService) -> None:
    """What the page about it led to; it comes by now, for tests run in the order of the file."""
    offered = {model["name"]: model for model in service.http.get("/models").json()["data"]}
    data = {one["name"]: one for one in service.http.get("/datasets").json()["data"]}
    jobs = service.http.get("/jobs", params={"model": "shapes-net", "state": "succeeded"}).json()["data"]

    assert (offered["shapes-net"]["provider"], offered["shapes-net"]["dataset"]) == ("plugin", "shapes")
    assert (data["shapes"]["available"], data["shapes"]["shape"], data["shapes"]["classes"]) == (True, [1, 12, 12], 2)
    [job] = [job for job in jobs if job["name"] == "own"]
    assert set(job["spec"]["model"]["weights"]) == {"sha256"}
    assert job["spec"]["dataset"]["name"] == "shapes"
    assert job["result"]["prunable_weights"] == 9 * 8 + 9 * 8 * 16 + 4 * 16 * 2
    assert job["result"]["sparsity"] == pytest.approx(0.8, abs=0.001)
    assert job["result"]["accuracy"]["dense"] > 0.9
    assert job["result"]["splits"] == {"train": 1200, "reward": 200, "select": 200, "test": 200}


class TestTheTables:
    def test_every_entry_is_of_a_command_that_a_page_has(self) -> None:
        used = {elsewhere(step) for told in ALL.values() for step in told}

        assert {*RUN_BY, *NOT_HERE} - used == set()

    @pytest.mark.parametrize("test", sorted(set(RUN_BY.values())))
    def test_the_tests_that_are_named_exist(self, test: str) -> None:
        path, _, name = test.partition("::")

        assert re.search(rf"def {name}\b", (ROOT / "tests" / path).read_text())

    def test_what_is_not_run_is_shell_and_python_all_the_same(self) -> None:
        for step in (step for told in ALL.values() for step in told):
            if step.kind == "sh":
                assert subprocess.run(["bash", "-n", "-c", step.text]).returncode == 0, step
            else:
                ast.parse(step.text)

    def test_commands_of_containers_name_what_there_is(self) -> None:
        """Compose's services and profiles, and the files that are handed to kubectl."""
        compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
        profiles = {profile for one in compose["services"].values() for profile in one.get("profiles", [])}
        said = [step.text for told in ALL.values() for step in told if "docker compose" in step.text]
        applied = [step.text for told in ALL.values() for step in told if step.text.startswith("kubectl apply")]

        assert said
        assert applied
        for command in said:
            words = command.partition("#")[0].split()
            assert {words[n + 1] for n, word in enumerate(words) if word == "--profile"} <= profiles, command
            if "run" in words:
                assert set(words) & set(compose["services"]), command
        for command in applied:
            assert (ROOT / command.split(" -k ")[1].split()[0] / "kustomization.yaml").exists(), command
