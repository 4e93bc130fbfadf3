"""OpenAPI 3.1 description of the service, with the spaces of each served model."""

from trpo_deploy.serve.protocols.openapi.document import describe_service
from trpo_deploy.serve.protocols.openapi.page import DOCS_HEADERS, DOCS_PAGE

__all__ = ["DOCS_HEADERS", "DOCS_PAGE", "describe_service"]
