"""Takes alerts over HTTP: connections, authentication, responses."""
