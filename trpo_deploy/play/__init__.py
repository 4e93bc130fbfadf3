"""Play a policy in its environment, from the exported file or with torch: returns and video."""

from trpo_deploy.play.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
