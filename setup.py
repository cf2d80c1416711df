"""The recipes of `configs/`, which is their only copy, travel in the wheel as `bgan_video/configs`.

Everything else about the build is in pyproject.toml. An editable install reads `configs/` itself.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = "configs"


class BuildWithRecipes(build_py):
    """Python files, and the recipes beside them."""

    def run(self):
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            for target, source in self._recipes().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode=True):
        """Everything that is installed."""
        built = super().get_outputs(include_bytecode)
        return built if self.editable_mode else [*built, *self._recipes()]

    def _recipes(self):
        folder = Path(self.build_lib, "bgan_video")
        return {str(folder / file): str(file) for file in sorted(Path(RECIPES).rglob("*.yaml"))}


setup(cmdclass={"build_py": BuildWithRecipes})
