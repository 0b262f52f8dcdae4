"""The Helm chart: what it renders, what it refuses, and what it does on a real API server."""
