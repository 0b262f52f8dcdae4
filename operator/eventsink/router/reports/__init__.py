"""Reports of how delivery goes: the condition `Delivering` and `status.delivery` of EventSinks."""
