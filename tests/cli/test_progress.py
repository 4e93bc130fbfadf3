"""Training on the terminal."""

from __future__ import annotations

import time

from rich.console import Console

from trpo_deploy.cli.progress import TrainingDisplay, metrics_table
from trpo_deploy.train import load_config
from trpo_deploy.train.run.callbacks.evaluation import EvaluationPoint


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


def test_small_returns_are_shown_with_three_digits() -> None:
    console = Console(force_terminal=True, width=120, record=True, highlight=False)
    config = load_config("CartPole-v1", n_timesteps=1000)
    with TrainingDisplay(console, config, live=True) as display:
        display.reports.progress(200, 0.03124)
        display.reports.evaluation(EvaluationPoint(200, 0.03124, 0.0021))
        console.print(display.picture())
    shown = console.export_text()
    assert "return 0.0312 ± 0.0021" in shown
    assert "200/1000  return 0.0312" in shown


def test_a_log_without_values_is_an_empty_table() -> None:
    assert metrics_table({}).row_count == 0
