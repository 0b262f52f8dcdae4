"""The `/v1/event_sink` facade: EventSinks for programs that do not speak Kubernetes. Never a second store."""
