"""The packages of a wheel; everything else is in pyproject.toml.

pyproject.toml can either find packages or list them. Those of bench and attentions are found;
``bench.conf``, which is the checkout's conf/, has to be listed.
"""

from setuptools import find_namespace_packages, setup

found = find_namespace_packages(
    include=["attentions*", "bench*"],
    exclude=["attentions.testing.golden*"],  # 24 MB, which stay in the repository
)
setup(packages=[*found, "bench.conf"], py_modules=["attnbench"])
