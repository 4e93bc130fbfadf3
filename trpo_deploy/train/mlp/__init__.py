"""Fast path for dense networks: derivatives, the critic's regression and rollouts written out.

:func:`~trpo_deploy.train.mlp.standard_mlp.standard_mlp` decides which policies take it.
"""
