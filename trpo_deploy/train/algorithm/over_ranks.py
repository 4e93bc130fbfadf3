"""A rollout's callback where several ranks collect the rollout."""

from __future__ import annotations

from copy import copy
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from trpo_deploy.train.codec import decode, encode
from trpo_deploy.train.distributed.world import world


class OverRanks(BaseCallback):
    """Runs a callback so that all ranks make the same steps and stop together.

    ``num_timesteps`` counts the steps of all ranks, and rank 0 logs the episodes of all. After a
    callback has ended the rollout it is not called again. The ranks learn of it at the rollout's
    end, and then the rollout counts as stopped on each of them.

    Args:
        model: The algorithm.
        callback: The callback of this rank.
    """

    def __init__(self, model: OnPolicyAlgorithm, callback: BaseCallback) -> None:
        super().__init__()
        self.model = model
        self.stopped = False
        """Whether a rank's callback ended the rollout."""
        self._callback = callback
        self._first = world().rows(model.n_envs).start
        self._episodes: list[tuple[int, int, dict[str, Any]]] = []
        """Step, environment, and what its info says of the episode that ended."""
        self._buffers_before = copy(model.ep_info_buffer), copy(model.ep_success_buffer)

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """Pass the variables of the rollout on."""
        self._callback.update_locals(locals_)

    def _on_rollout_start(self) -> None:
        self._callback.on_rollout_start()

    def _on_step(self) -> bool:
        self.model.num_timesteps += (world().size - 1) * self.model.n_envs
        dones = self.locals["dones"]
        for i, info in enumerate(self.locals["infos"]):
            keys = ("episode", "is_success") if dones[i] else ("episode",)
            ended = {key: info[key] for key in keys if info.get(key) is not None}
            if ended:
                self._episodes.append((self.model.num_timesteps, self._first + i, ended))
        if not self.stopped:
            self.stopped = not self._callback.on_step()
        return True

    def _on_rollout_end(self) -> None:
        self.stopped = bool(world().sum(torch.tensor([int(self.stopped)])))
        if self.stopped:
            return
        self._gather_episodes()
        self._callback.on_rollout_end()

    def _gather_episodes(self) -> None:
        """Give rank 0 the episodes of all ranks, in the order of one process."""
        others = world().gather_bytes(encode(self._episodes))
        if world().rank > 0:
            return
        episodes = sorted(sum(map(decode, others), self._episodes), key=itemgetter(0, 1))
        self.model.ep_info_buffer, self.model.ep_success_buffer = self._buffers_before
        for _, _, info in episodes:
            self.model._update_info_buffer([info], np.array([True]))
