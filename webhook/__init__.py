"""Admission: what a pod gets for its class, as a patch, with the record that says why.

Pure but for `app` (Flask), `server` (TLS) and `metrics`. Never imports `nodes` or `attach`.
"""
