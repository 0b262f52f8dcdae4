"""EventSink: delivers each tenant's alerts to its own Slack channels and webhooks, as declared by Kubernetes resources."""
