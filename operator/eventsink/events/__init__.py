"""Follows the Kubernetes Events of a cluster and posts them to the router: `eventsink events`."""
