"""The command line: each command has a module, parses its options, calls one function, prints.

Modules import torch, gymnasium and BentoML inside the commands, so that ``--help`` answers at once.
"""
