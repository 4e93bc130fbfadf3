"""The table of engines: kinds of policies, engines, their processes, and the page."""
