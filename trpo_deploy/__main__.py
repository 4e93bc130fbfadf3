"""``python -m trpo_deploy`` is the command ``trpo-deploy``."""

from trpo_deploy.cli.app import main

main()
