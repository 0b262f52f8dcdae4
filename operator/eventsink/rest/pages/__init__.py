"""Pages for people: the API's documentation, and Slack's browser flow."""
