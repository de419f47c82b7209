"""Frozen records: as JAX pytrees (which fields are traced, which static) and by name, so that files can hold them."""

import dataclasses

import jax

RECORDS: dict[str, type] = {}


def saved(cls):
    """Class decorator: let files hold this frozen dataclass, under its name."""
    RECORDS[cls.__name__] = cls
    return cls


def record(arrays=(), static=()):
    """Class decorator: register a frozen dataclass with JAX (`arrays` traced, `static` compared and hashed) and with files.

    Unflattening bypasses the constructor: JAX puts tracers and placeholders where a constructor would check numbers.
    """

    def register(cls):
        fields = {f.name for f in dataclasses.fields(cls)}
        if fields != {*arrays, *static}:
            raise TypeError(f"{cls.__name__}: fields {fields} against {arrays} and {static}")

        keys = [jax.tree_util.GetAttrKey(n) for n in arrays]

        def flatten(value):
            return [getattr(value, n) for n in arrays], tuple([getattr(value, n) for n in static])

        def flatten_with_keys(value):
            children, aux = flatten(value)
            return list(zip(keys, children, strict=True)), aux

        def unflatten(aux, children):
            return assemble(cls, dict(zip((*arrays, *static), (*children, *aux), strict=True)))

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return saved(cls)

    return register


def assemble(cls, values):
    """An instance of a frozen dataclass from its fields, without its constructor's checks."""
    value = object.__new__(cls)
    for name, part in values.items():
        object.__setattr__(value, name, part)
    return value
