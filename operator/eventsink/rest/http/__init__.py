"""The facade's HTTP server and its OpenAPI document."""
