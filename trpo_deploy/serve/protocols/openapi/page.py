"""The page at ``/docs``: Swagger UI from BentoML's own files, nothing from other hosts.

The description of the models needs a key if the service has keys. The page asks for it, loads the
description with it, and authorizes the requests that are tried out.
"""

from base64 import b64encode
from hashlib import sha256

_SCRIPT = """
const form = document.getElementById("login");
async function show(key) {
  const headers = key ? {Authorization: `Bearer ${key}`} : {};
  const reply = await fetch("/docs.json", {headers});
  const message = document.getElementById("message");
  if (!reply.ok) {
    const {error} = await reply.json();
    message.textContent = reply.status === 401 && !key ? "" : error.message;
    form.hidden = reply.status !== 401;
    return;
  }
  form.hidden = true;
  message.textContent = "";
  const ui = SwaggerUIBundle({
    spec: await reply.json(),
    dom_id: "#docs",
    validatorUrl: null,
    onComplete: () => key && ui.preauthorizeApiKey("key", key),
  });
}
form.addEventListener("submit", event => {
  event.preventDefault();
  show(form.elements.key.value);
});
show("");
"""

DOCS_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>trpo-deploy</title>
<link rel="stylesheet" href="/static_content/swagger-ui.css">
</head>
<body>
<form id="login" hidden>
<label>API key <input name="key" type="password" autocomplete="off" required></label>
<button>Show</button>
</form>
<p id="message"></p>
<div id="docs"></div>
<script src="/static_content/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
""".encode()

_SCRIPT_HASH = b64encode(sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
    f"style-src 'self' 'unsafe-inline'; script-src 'self' 'sha256-{_SCRIPT_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
)
"""No other script runs on the page, and no other page shows it in a frame."""
