"""The two processes that Septum starts, each built from its settings: nothing below knows all the parts of either."""
