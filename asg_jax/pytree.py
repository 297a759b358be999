"""Frozen dataclasses that JAX sees through."""

from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform, no_type_check

from jax.tree_util import register_dataclass

T = TypeVar("T")


def static(**options: Any) -> Any:
    """A field that is part of the tree's structure: hashable, and a new value compiles anew."""
    return field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, field_specifiers=(static, field))
def pytree(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass whose fields are children, except those marked `static`."""
    # JAX also builds it with leaves that are no arrays, which runtime shape checks would refuse.
    return register_dataclass(no_type_check(dataclass(frozen=True)(cls)))
