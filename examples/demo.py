"""The whole way once, as any client would go it: post a job, watch it, download the checkpoint, and measure it again.

`make demo` runs this. Everything runs on this machine: the service on a free port, SQLite, a folder, a local Ray.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

JOB: dict[str, Any] = {
    "name": "demo",
    "model": {"name": "digits-resnet"},
    "targets": {"sparsity": 0.90},
    # Enough for three full fine-tunes of each finalist: a few seconds on these small images.
    "race": {"budget": 100_000},
}
START_SECONDS = 180  # the service itself needs about 3, on a machine that has nothing else to do
JOB_SECONDS = 900  # the job needs about 2 minutes on 2 cores: past this it hangs
STOP_SECONDS = 150  # longer than the service's own limit for stopping
TITLES = {
    "purl-mean": "PuRL, mean policy",
    "purl-best": "PuRL, best episode",
    "uniform": "uniform",
    "global": "global magnitude",
    "global-mt": "global, minimum",
    "lamp": "LAMP",
    "random": "random search",
}


class Amiss(Exception):
    """Something is not as it should be; the demo ends with exit code 1."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runners", type=int, default=2, help="episodes played side by side")
    parser.add_argument("--seed", type=int, default=0, help="decides every random choice of the job")
    parser.add_argument("--episodes", type=int, default=55, help="walks that the search learns from")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="where the checkpoint goes")
    options = parser.parse_args()
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: the service must not outlive the demo
    try:
        with tempfile.TemporaryDirectory(prefix="purl-demo-") as data_dir:
            say("starting the service: API, dispatcher, SQLite and a local Ray")
            with service(Path(data_dir)) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
                job = pruned(http, options.runners, options.seed, options.episodes)
                path = download(http, job, options.output)
            say("the service has stopped")
        checked = measure_again(path, job)
    except (Amiss, httpx.HTTPError) as problem:
        say(f"demo failed: {problem}")
        return 1
    except KeyboardInterrupt:
        say("demo stopped")
        return 130
    show(job, checked, path, time.monotonic() - began)
    return 0


@contextlib.contextmanager
def service(data_dir: Path) -> Iterator[str]:
    """The embedded service on a free port of the loopback address, stopped in the end whatever happens."""
    # Of the caller's own PURL_ settings none: the demo is the same everywhere.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PURL_")}
    env |= {"PURL_DATA_DIR": str(data_dir), "PURL_PORT": "0", "PURL_HEARTBEAT_SECONDS": "2"}
    log = data_dir / "service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services"],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes to the demo alone, which then stops the service in order
        )
    try:
        yield wait_until_ready(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Amiss(f"the service did not stop within {STOP_SECONDS} s") from None
    if code != 0:
        raise Amiss(f"the service ended with exit code {code}:\n{tail(log)}")


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("ready at "):
                return line.removeprefix("ready at ").strip()
        time.sleep(0.1)
    raise Amiss(f"the service did not start:\n{tail(log)}")


def tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-20:])


def pruned(http: httpx.Client, runners: int, seed: int, episodes: int) -> dict[str, Any]:
    """Post the job and watch it until it has ended."""
    # Two by default, whatever the number of runners: then one and two of them give the same bits.
    search = {"episodes": episodes, "lookahead": max(2, runners)}
    answer = http.post("/jobs", json={**JOB, "seed": seed, "search": search, "resources": {"env_runners": runners}})
    if answer.status_code != 202:
        raise Amiss(f"POST /jobs answered {answer.status_code}: {answer.json()['detail']}")
    job: dict[str, Any] = answer.json()
    say(f"POST /jobs → 202 {job['id']}: prune {JOB['model']['name']} on digits to 90 % sparsity")
    watch(http, job["links"]["events"], episodes)
    job = http.get(job["links"]["self"]).json()
    if job["state"] != "succeeded":
        log = http.get(f"{job['links']['artifacts']}/attempt.log").text
        raise Amiss(f"the job {job['state']}: {job['error']}\n{log[-3000:]}")
    return job


def watch(http: httpx.Client, events: str, episodes: int) -> None:
    """Follow the live stream; a broken one is taken up where it broke."""
    last, deadline = "0", time.monotonic() + JOB_SECONDS
    line = ProgressLine(episodes)
    while time.monotonic() < deadline:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
        with contextlib.suppress(httpx.TransportError), http.stream("GET", events, headers=headers) as stream:
            if stream.status_code == 204:  # ended, and all is said
                return line.close()
            for text in stream.iter_lines():
                if text.startswith("id: "):
                    last = text.removeprefix("id: ")
                elif text.startswith("data: "):
                    event = json.loads(text.removeprefix("data: "))
                    line.tell(event["type"], event["data"])
                if time.monotonic() > deadline:
                    break
    raise Amiss(f"the job did not end within {JOB_SECONDS} s")


class ProgressLine:
    """One line that is drawn over on a terminal; a line now and then where there is none."""

    def __init__(self, episodes: int) -> None:
        self.episodes = episodes
        self.live = sys.stdout.isatty()
        self.searching_since = 0.0
        self.drawn = False

    def tell(self, type: str, data: dict[str, Any]) -> None:
        if type == "phase":
            self.close()
            say(f"phase: {data['phase']}")
        elif type == "rung":
            self.rung(data)
        elif type == "attempt" and data.get("state") not in (None, "launching", "running", "succeeded"):
            self.close()
            say(f"attempt {data.get('number')}: {data['state']} ({data.get('reason')})")
        elif type == "episode" and data["kind"] == "search":
            self.episode(data)

    def episode(self, data: dict[str, Any]) -> None:
        total, done, now = self.episodes, data["index"] + 1, time.monotonic()
        self.searching_since = self.searching_since or now - data["seconds"]
        left = (now - self.searching_since) / done * (total - done)
        bar = "█" * round(24 * done / total)
        text = (
            f"  episode {done:2}/{total} {bar:24} accuracy {data['accuracies'][-1]:6.1%}  "
            f"sparsity {data['sparsities'][-1]:6.1%}  reward {sum(data['rewards']):7.2f}  about {left:3.0f} s left"
        )
        if self.live:
            print(f"\r{text}", end="", flush=True)
            self.drawn = True
        elif done == 1 or done % 5 == 0:
            print(text, flush=True)

    def rung(self, data: dict[str, Any]) -> None:
        rows = sorted(data["candidates"], key=lambda row: -row["select_accuracy"])
        seeds = "" if data["seeds"] == 1 else f", mean of {data['seeds']} seeds"
        say(f"  after {data['epochs']} of {data['of_epochs']} epochs, on the select split{seeds}:")
        for row in rows:
            say(f"    {row['select_accuracy']:6.1%}  {title(row)}{'' if row['goes_on'] else ' (out)'}")

    def close(self) -> None:
        if self.drawn:
            print()
            self.drawn = False


def title(candidate: dict[str, Any]) -> str:
    return TITLES["-".join(filter(None, (candidate["method"], candidate["variant"])))]


def download(http: httpx.Client, job: dict[str, Any], folder: Path) -> Path:
    told = job["result"]["checkpoint"]
    answer = http.get(told["href"]).raise_for_status()
    if hashlib.sha256(answer.content).hexdigest() != told["sha256"]:
        raise Amiss("the downloaded checkpoint does not match its sha256")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pruned.safetensors"
    path.write_bytes(answer.content)
    (folder / "job.json").write_text(json.dumps(job, indent=1))
    say(f"downloaded {path} ({told['bytes']:,} bytes), its sha256 matches")
    return path


def measure_again(path: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Into the plain torch model with torch's own load_state_dict; then count the zeros and classify the test split."""
    import torch
    from safetensors.torch import load_file
    from torch import nn

    from purlkit.spec import Dataset
    from purlkit.zoo.datasets import load
    from purlkit.zoo.small import DigitsResNet

    torch.set_num_threads(1)
    model = DigitsResNet(channels=1, classes=10, width=16)
    model.load_state_dict(load_file(path))
    model.eval()
    weights = {name: m.weight for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    total = sum(weight.numel() for weight in weights.values())
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    test = load(Dataset(name="digits"), Path()).test
    with torch.inference_mode():
        accuracy = (model(test.x).argmax(1) == test.y).double().mean().item()
    result = job["result"]
    if abs(zeros / total - result["sparsity"]) > 1e-12:
        raise Amiss(f"the file's sparsity is {zeros / total}, the service said {result['sparsity']}")
    if abs(zeros / total - 0.90) > 0.001:
        raise Amiss(f"90 % sparsity was asked for, the file has {zeros / total:.3%}")
    if abs(accuracy - result["accuracy"]["fine_tuned"]) > 1e-12:
        raise Amiss(f"the file's accuracy is {accuracy}, the service said {result['accuracy']['fine_tuned']}")
    return {"zeros": zeros, "total": total, "accuracy": accuracy}


def show(job: dict[str, Any], checked: dict[str, Any], path: Path, seconds: float) -> None:
    result = job["result"]
    head = f"{'':18} {'sparsity':>9} {'pruned':>8} {'fine-tuned':>11} {'epochs':>8} {'images seen':>12} {'seconds':>8}"
    print(f"\n{head}\n{'-' * len(head)}")
    dense = result["accuracy"]["dense"]
    print(f"{'dense':18} {0:9.2%} {'':>8} {dense:11.1%}")
    for candidate in sorted(result["candidates"], key=lambda each: (-each["epochs"], -each["accuracy"])):
        epochs = "diverged" if candidate["diverged"] else f"{candidate['seeds']} × {candidate['epochs']}"
        print(
            f"{title(candidate):18} {candidate['sparsity']:9.2%} {candidate['accuracy_pruned']:8.1%} "
            f"{candidate['accuracy']:11.1%} {epochs:>8} {candidate['images_seen']:12,} "
            f"{candidate['device_seconds']:8.1f}"
        )
    splits = result["splits"]
    print(
        f"(pruned: {splits['select']} images of the select split, which alone decides; fine-tuned: {splits['test']} of "
        f"the test split, read once at the end)"
    )
    print(
        f"\nmeasured again from {path}: {checked['zeros']:,} of {checked['total']:,} weights are zero "
        f"({checked['zeros'] / checked['total']:.2%}), test accuracy {checked['accuracy']:.1%}"
    )
    for candidate in result["candidates"]:
        print(f"mask of {title(candidate)}: sha256 {candidate['mask_sha256']}")
    print("\n" + textwrap.fill(f"verdict: {result['verdict']}", 110))
    print(f"\ndone in {seconds:.0f} s")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
