"""The engine: lanes that act, store, update and are evaluated, in compiled chunks.

`chunk` is what one lane does, `strategies` how several run on a device, `devices` how they are laid
over all of them, `compiled` keeps programs. `program` puts these together.
"""
