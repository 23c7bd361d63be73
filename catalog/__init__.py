"""Spec catalogues: what sandbox sizes exist, what SLA classes promise, and which size holds an ask.

Pure but for `load`, which reads files. Imports no sibling package.
"""
