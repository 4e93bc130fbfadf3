"""The table of engines: kinds of policies, engines, a process for each pair, and the page."""
