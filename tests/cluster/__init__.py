"""A launcher of real Kubernetes clusters on one machine, and the tests that need one."""
