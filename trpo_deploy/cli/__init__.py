"""The command ``trpo-deploy``: one module a command; each parses, calls one function, prints."""
