"""
GPU attach: gives a device to a running container, takes it back, and survives anything in between.

Decisions are pure; what touches a node stands behind `attach.ports`, in the modules whose docstring begins with EDGE.
"""
