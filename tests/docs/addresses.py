"""The public addresses of the project, as its metadata has them."""

from __future__ import annotations

from importlib.metadata import metadata

_URLS = dict(each.split(", ", 1) for each in metadata("trpo-deploy").get_all("Project-URL") or ())
PROJECT = _URLS["Repository"]
SITE = _URLS["Documentation"]
