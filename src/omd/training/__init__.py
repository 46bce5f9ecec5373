"""The engine: lanes that act, store, update and are evaluated, in compiled chunks."""
