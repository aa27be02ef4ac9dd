"""Recipes: what a person writes, read strictly."""

from pathlib import Path

import pytest

from cloister.rootfs import EXAMPLES, Recipe, RecipeError, read_recipe

SHIPPED = sorted(path.parent for path in EXAMPLES.glob("*/enclave.toml"))
MINIMAL = '[root]\npackages = ["busybox-static"]\n[image]\ncmd = ["/bin/sh"]\n'


def test_minimal_recipe_is_enough() -> None:
    """Packages and a command are all a recipe needs."""
    recipe = Recipe.from_toml(MINIMAL)
    assert recipe.packages == ("busybox-static",)
    assert recipe.cmd == ("/bin/sh",)
    assert not recipe.library


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[root", "malformed"),
        ('[root]\npackages = ["a"]\n', "incomplete"),
        ('[image]\ncmd = ["a"]\n', "incomplete"),
        (MINIMAL.replace("packages", "pakages"), "unknown entry pakages"),
        (MINIMAL + "[extra]\n", "unknown entry extra"),
        (MINIMAL.replace('["/bin/sh"]', '"/bin/sh"'), "list of strings"),
        (MINIMAL + '[files]\n"../x" = "a"\n', "relative path"),
        (MINIMAL + '[files]\n"x" = "/etc/shadow"\n', "relative path"),
        ('root = 1\n[image]\ncmd = ["a"]\n', "malformed"),
    ],
)
def test_bad_recipe_is_refused(text: str, complaint: str) -> None:
    """What cannot be meant is refused with a sentence that says what is wrong."""
    with pytest.raises(RecipeError, match=complaint):
        Recipe.from_toml(text)


def test_missing_recipe_names_its_file(tmp_path: Path) -> None:
    """A directory without a recipe is named."""
    with pytest.raises(RecipeError, match=r"enclave\.toml cannot be read"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    "directory", sorted(path.parent for path in EXAMPLES.glob("*/enclave.toml")), ids=str
)
def test_shipped_recipes_have_their_files(directory: Path) -> None:
    """Every file that a shipped recipe puts into its image is shipped beside it."""
    assert all((directory / source).is_file() for _, source in read_recipe(directory).files)
