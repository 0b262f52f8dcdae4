"""The HTTP server of the REST API, and its OpenAPI document."""
