"""Decides what each sink is to be notified of: tenant, match, what is new."""
