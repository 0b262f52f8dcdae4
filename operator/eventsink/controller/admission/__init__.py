"""The admission webhook: what is wrong with an EventSink is said when it is applied."""
