"""Training on the terminal."""

from __future__ import annotations

import time

from rich.console import Console

from trpo_deploy.cli.progress import TrainingDisplay, metrics_table
from trpo_deploy.train import load_config


def test_the_terminal_shows_metrics_speed_and_return() -> None:
    console = Console(force_terminal=True, width=120, record=True, highlight=False)
    config = load_config("CartPole-v1", n_timesteps=1000)
    with TrainingDisplay(console, config, live=True) as display:
        for timesteps in (200, 400, 600):
            time.sleep(0.01)
            display.reports.progress(timesteps, 33.25)
        display.reports.log({"train/value_loss": 1.25, "time/fps": 512, "train/refusal": "[x]"})
        console.print(display.picture())
    shown = console.export_text()
    for text in ("600/1000", "steps/s", "return 33.2", "value_loss 1.25", "refusal [x]", "time"):
        assert text in shown, text


def test_a_log_without_values_is_an_empty_table() -> None:
    assert metrics_table({}).row_count == 0
