"""What a wheel holds and how it is built; pyproject.toml says what the package is and needs.

``properties/``, at top level for users, becomes ``recbole_ssm.properties`` in a wheel. The C library is loaded with
ctypes, so that a wheel is for a platform and for every Python.
"""

import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDERS = [Path("properties"), *sorted(folder for folder in Path("properties").rglob("*") if folder.is_dir())]

# torch brings an OpenMP of its own, and on macOS a second one in the same process ends it. One thread is used there.
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]

# Plain C. Where it cannot be built, everything works without it, more slowly.
NATIVE = Extension(
    "recbole_ssm.ops.backends.native._library",
    ["recbole_ssm/ops/backends/native/library.c"],
    depends=sorted(map(str, Path("recbole_ssm/ops/backends/native").glob("*.h"))),
    extra_compile_args=["-O2", "-std=c11", *OPENMP, "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi"],
    extra_link_args=OPENMP,
    optional=True,
)


class BuildLibrary(build_ext):
    """Names the library without the Python that built it."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"


class Wheel(bdist_wheel):
    """Tags the wheel ``py3-none-PLATFORM``."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
    ext_modules=[NATIVE],
    packages=[
        *find_packages(include=["recbole_ssm", "recbole_ssm.*"]),
        *(".".join(("recbole_ssm", *folder.parts)) for folder in FOLDERS),
    ],
    package_dir={"recbole_ssm.properties": "properties"},
    package_data={"": ["*.yaml", "*.hyper", "*.j2", "*.html", "*.css", "*.js", "*.svg", "py.typed"]},
)
