"""``python -m trpo_deploy`` runs the command ``trpo-deploy``."""

from trpo_deploy.cli.app import main

main()
