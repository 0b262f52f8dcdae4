"""Who may use the REST API: authentication by API keys and ServiceAccount tokens, and authorization."""
