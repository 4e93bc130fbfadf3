"""The page at ``/docs``: Swagger UI from BentoML's own files, nothing from other hosts."""

DOCS_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>trpo-deploy</title>
<link rel="stylesheet" href="/static_content/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/docs.json", dom_id: "#docs", validatorUrl: null})</script>
</body>
</html>
"""
