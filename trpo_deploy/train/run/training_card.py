"""The training's section of the model card: returns, settings, versions, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trpo_deploy.envs.returns import return_digits
from trpo_deploy.train.config.train_config import TrainConfig


def card_text(
    config: TrainConfig,
    timesteps: int,
    last: Sequence[float],
    best: Sequence[float],
    versions: Mapping[str, str],
) -> str:
    """The text of ``README.md`` in a model folder.

    Args:
        config: Configuration of the run.
        timesteps: Environment steps made.
        last: Returns of the last evaluation's episodes.
        best: Returns of the best evaluation's episodes.
        versions: Versions of the packages used, by name.
    """
    settings = {**config.to_dict(), **config.to_dict()["hyperparameters"]}
    del settings["hyperparameters"]
    return f"""# TRPO on {config.env_id}

A policy trained by trpo-deploy in {timesteps:,} steps.

![evaluation return over training steps](learning_curve.png)

| policy | return (mean ± std) | lowest | highest | episodes |
|---|---|---|---|---|
{_returns_row("`policy.zip`, the last", last)}
{_returns_row("`best/policy.zip`, the best evaluation", best)}

Deterministic episodes, from the same seeds in each evaluation. They also selected the best policy,
so its return is biased upwards; `trpo-deploy evaluate` plays other episodes.

## Reproduce

In this folder, with the versions below:

```
trpo-deploy train {config.env_id} --preset config.yaml -o ../again
```
{_start(config)}
## Settings

Settings that are not listed have the defaults of `sb3_contrib.TRPO`.

{_table(settings)}

## Versions

{_table(versions)}
"""


def _start(config: TrainConfig) -> str:
    if config.init is None:
        return ""
    return f"""
The run started from the weights of `{config.init}`. From another folder than the run's, add
`--init PATH`.
"""


def _returns_row(name: str, returns: Sequence[float]) -> str:
    mean, std = float(np.mean(returns)), float(np.std(returns))
    low, high = min(returns), max(returns)
    digits = return_digits(mean, std, low, high)
    spread = f"{mean:{digits}} ± {std:{digits}} | {low:{digits}} | {high:{digits}}"
    return f"| {name} | {spread} | {len(returns)} |"


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(value: Any) -> str:
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return f"`{text}`" if text else ""
