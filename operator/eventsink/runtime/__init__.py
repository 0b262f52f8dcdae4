"""What every process needs: configuration from a file, structured logs, the health and metrics endpoint."""
