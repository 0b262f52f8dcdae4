"""Who may use the facade: API keys and ServiceAccount tokens."""
