"""The operator: from an EventSink to a compiled sink and a status."""
