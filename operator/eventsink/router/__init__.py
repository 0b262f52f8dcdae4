"""The router: from an alert that a source sent to a delivery that is settled."""
