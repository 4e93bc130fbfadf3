"""The mathematics of an update, and its actor and critic by autograd.

Other implementations of an actor or a critic's regression satisfy the protocols in
:mod:`~trpo_deploy.train.update.actor` and :mod:`~trpo_deploy.train.update.regression`.
"""
