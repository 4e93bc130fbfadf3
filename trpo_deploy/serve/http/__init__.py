"""From a connection to an endpoint: limits, keys, routing, errors."""
