"""The actor that plays: RLlib's env runner by a name of ours, so that Ray's worker comes here first to load it."""

from __future__ import annotations

from purlkit.startup import loading

with loading():
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner


class Player(SingleAgentEnvRunner):  # type: ignore[misc]
    pass
