"""Build of the compiled module and of the long description; pyproject.toml has everything else."""

import posixpath
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
LINK = re.compile(
    r"""(?P<before>\]\(|\b(?:href|src|srcset)=["'])(?P<path>(?!\w+:|//|\#)[^\s)"']+)"""
)
"""A link or picture, in Markdown or HTML, whose target is a path in this repository."""


def long_description() -> str:
    """README.md with absolute links, since a package index shows it without the repository."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    version = re.search(r'^__version__ = "(.+)"$', read("trpo_deploy/__init__.py"), re.MULTILINE)[1]
    return absolute_links(read("README.md"), project["urls"]["Repository"], f"v{version}")


def read(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def absolute_links(markdown: str, repository: str, tag: str) -> str:
    """Let relative links lead to pages of a tag, and relative pictures to their files."""

    def absolute(link: re.Match) -> str:
        kind = "raw" if link["path"].endswith(PICTURES) else "blob"
        # A badge's path, ../../actions/…, leads out of the files of the tag.
        path = posixpath.normpath(f"{kind}/{tag}/{link['path']}")
        return f"{link['before']}{repository}/{path}"

    return LINK.sub(absolute, markdown)


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
    # The C source depends on numpy's version. One that another Python's build left may not compile.
    modules = cythonize(compiled, build_dir="build", force=True, quiet=True)
    for module in modules:  # cythonize() drops this option from the extension above
        module.optional = True
    return modules


if __name__ == "__main__":
    setup(
        ext_modules=compiled_modules(),
        long_description=long_description(),
        long_description_content_type="text/markdown",
    )
