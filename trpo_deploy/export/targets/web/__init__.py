"""The target ``web``: JavaScript source of a policy, for pages and Node."""
