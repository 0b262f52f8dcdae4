"""The embedded default: operator and router in one process over a folder of YAML, no cluster needed."""
