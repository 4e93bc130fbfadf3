"""A curriculum as a callback: gravity grows while the policy learns.

Run it with::

    trpo-deploy train CartPole-v1 -o runs/curriculum \
        --callback 'examples.curriculum:Gravity: {start: 4.9, end: 9.8, steps: 20000}'
"""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback


class Gravity(BaseCallback):
    """Changes gravity linearly, from rollout to rollout.

    It follows from the number of steps, so a resumed run continues it exactly.

    Args:
        start: Gravity at the first step, m/s².
        end: Gravity from the last step on, m/s².
        steps: Number of environment steps between them.
    """

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__()
        self.start, self.end, self.steps = start, end, steps

    def _on_rollout_start(self) -> None:
        done = min(self.num_timesteps / self.steps, 1.0)
        gravity = self.start + done * (self.end - self.start)
        # set_attr() would set it on the outermost wrapper.
        self.training_env.env_method("set_wrapper_attr", "gravity", gravity)
        self.logger.record("curriculum/gravity", gravity)

    def _on_step(self) -> bool:
        return True
