"""Build of the compiled module; pyproject.toml has everything else."""

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

compiled = Extension(
    "trpo_deploy.train.mlp._step_compiled",
    ["trpo_deploy/train/mlp/_step_compiled.pyx"],
    include_dirs=[numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=["-O3"],
)
modules = cythonize(compiled, build_dir="build", quiet=True)
for module in modules:  # cythonize() drops this option from the extension above
    module.optional = True  # without a C compiler, step_numpy.py replaces it
setup(ext_modules=modules)
