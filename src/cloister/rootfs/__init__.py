"""Root filesystems for enclaves, made of pinned distribution packages and wheels, without root rights."""

from cloister.rootfs.assemble import (
    EXAMPLES,
    Assembled,
    assemble_examples,
    assemble_python_root,
    assemble_root,
    open_example,
)
from cloister.rootfs.lock import Lock, LockedPackage, LockedWheel, LockError, read_lock
from cloister.rootfs.recipe import RECIPE_NAME, Recipe, RecipeError, read_recipe
from cloister.rootfs.tree import TreeError

__all__ = [
    "EXAMPLES",
    "RECIPE_NAME",
    "Assembled",
    "Lock",
    "LockError",
    "LockedPackage",
    "LockedWheel",
    "Recipe",
    "RecipeError",
    "TreeError",
    "assemble_examples",
    "assemble_python_root",
    "assemble_root",
    "open_example",
    "read_lock",
    "read_recipe",
]
