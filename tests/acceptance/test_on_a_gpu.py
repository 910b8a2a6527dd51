"""A short job from end to end on CUDA, two runners on one GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.running import SMALL_JOB, serving

pytestmark = [pytest.mark.acceptance, pytest.mark.gpu]


def test_a_job_on_shares_of_one_gpu_gives_the_same_masks_on_one_runner_and_on_two(tmp_path: Path) -> None:
    for service in serving(tmp_path / "data"):
        one, two = (
            service.ended(
                service.submit(
                    {
                        **SMALL_JOB,
                        "resources": {"env_runners": runners, "cpus_per_runner": 0.5, "gpus_per_runner": 0.4},
                    }
                )
            )
            for runners in (1, 2)
        )

        for job in (one, two):
            assert job["state"] == "succeeded", job["error"]
        masks = [[candidate["mask_sha256"] for candidate in job["result"]["candidates"]] for job in (one, two)]
        assert masks[0] == masks[1]
        assert [e["actions"] for e in service.episodes(one["id"])] == [
            e["actions"] for e in service.episodes(two["id"])
        ]
