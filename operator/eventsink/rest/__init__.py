"""The REST API `/v1/event_sink`: EventSinks for programs that do not use the Kubernetes API. Never a second store."""
