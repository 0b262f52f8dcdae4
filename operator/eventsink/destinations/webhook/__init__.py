"""Webhooks: HTTP endpoints that take CloudEvents or Alertmanager's own format."""
