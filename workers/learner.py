"""RLlib's learner of DQN with an optimiser that does not load torch's compiler: purlkit/training/optimisers.py."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner

from purlkit.training.optimisers import Adam


class WalkLearner(DQNTorchLearner):  # type: ignore[misc]
    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        parameters = self.get_parameters(self.module[module_id])
        self.register_optimizer(
            module_id=module_id, optimizer=Adam(parameters), params=parameters, lr_or_lr_schedule=config.lr
        )
