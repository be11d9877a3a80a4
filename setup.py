"""The list of packages; everything else is in pyproject.toml.

`passes/`, `targets/` and `kernels/` lie beside `qcompiler/` and are installed below it, which setuptools'
own discovery cannot express. Computed here, a new folder needs no line anywhere.
"""

from setuptools import find_packages, setup

MOUNTED = ("passes", "targets", "kernels")

setup(
    packages=find_packages(include=["qcompiler", "qcompiler.*"])
    + [f"qcompiler.{name}" for top in MOUNTED for name in find_packages(include=[top, f"{top}.*"])]
)
