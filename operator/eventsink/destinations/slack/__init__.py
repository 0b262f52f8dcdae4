"""Slack channels, by bot token, OAuth code or incoming webhook."""
