"""The controller process: one leader that accepts catalogues, publishes what nodes offer, and keeps certificates.

Each reconciler reads both sides afresh, asks a pure function for a plan, and carries it out; it may run at any time,
any number of times. What to do is decided in `catalog`, `nodes` and `webhook`.
"""
