"""Mutation testing of the packages that ship in images: `nox -s mutation`.

Cosmic Ray makes the mutants, one small change of a module each. The package's own tests run on a
copy of it, in a process forked from one that has MLflow loaded; a mutant that they pass survives.
"""
