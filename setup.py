"""Build of the compiled module, and README.md with links that work elsewhere; pyproject.toml has the rest."""

import re
import sys
from pathlib import Path

from setuptools import Extension, setup

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent
PICTURES = (".gif", ".jpg", ".png", ".svg", ".webp")
LINK = re.compile(r"""(?P<before>\]\(|\b(?:href|src|srcset)=["'])(?P<path>(?!\w+:|//|\#)[^\s)"']+)""")
"""The target of a Markdown link or picture, or of an HTML one, that is a path in this repository."""


def long_description() -> str:
    """README.md with absolute links, since a package index shows it without the repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project["urls"]["Repository"]
    version = re.search(
        r'^__version__ = "(.+)"$', (ROOT / "trpo_deploy/__init__.py").read_text(), re.MULTILINE
    )[1]

    def absolute(link: re.Match) -> str:
        path = link["path"].removeprefix("./")
        kind = "raw" if path.partition("#")[0].endswith(PICTURES) else "blob"
        return f"{link['before']}{repository}/{kind}/v{version}/{path}"

    return LINK.sub(absolute, (ROOT / "README.md").read_text(encoding="utf-8"))


def compiled_modules() -> list[Extension]:
    """The compiled step of rollouts; without a C compiler, step_numpy.py replaces it."""
    import numpy
    from Cython.Build import cythonize

    compiled = Extension(
        "trpo_deploy.train.mlp._step_compiled",
        ["trpo_deploy/train/mlp/_step_compiled.pyx"],
        include_dirs=[numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-O3", "-g0"],  # debug information has paths of this machine
    )
    modules = cythonize(compiled, build_dir="build", quiet=True)
    for module in modules:  # cythonize() drops this option from the extension above
        module.optional = True
    return modules


if __name__ == "__main__":
    setup(
        ext_modules=compiled_modules(),
        long_description=long_description(),
        long_description_content_type="text/markdown",
    )
