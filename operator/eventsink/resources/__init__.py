"""The EventSink resource: its spec, its status, and the CRD made from them."""
