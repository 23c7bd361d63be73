"""GPU attach: gives a device to a running container and takes it back. Nothing stands here yet."""
