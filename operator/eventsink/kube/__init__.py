"""Access to the Kubernetes API, as the operator and the router share it."""
