"""Which quarantined devices the kubelet may give to anybody, for nothing reserves them any more. Pure."""

from collections.abc import Iterable

from attach.api import Object, Type, read_status


def unreserved(attachments: Iterable[Object], placeholders: Iterable[Object]) -> dict[str, tuple[str, ...]]:
    """
    Name the attachments that are quarantined and have lost their placeholder, by node.

    A placeholder that was deleted by force is gone, and one that its node evicted has failed; one that has succeeded
    ended on the agent's word, which knows the device to be free and is about to say so. What cannot be read whole as
    an attachment counts too, as long as its status says where it stands.

    Args:
        attachments: As the API server has them; name, namespace and status are read.
        placeholders: Likewise; UID and phase are read.
    """
    reserving = {pod["metadata"]["uid"] for pod in placeholders if (pod.get("status") or {}).get("phase") != "Failed"}
    found: dict[str, list[str]] = {}
    for thing in attachments:
        status, metadata = read_status(thing.get("status") or {}), thing["metadata"]
        is_over = status.has(Type.RELEASED) or status.has(Type.FAILED)
        uid = status.placeholder.uid if status.placeholder is not None else ""
        if status.has(Type.QUARANTINED) and not is_over and status.node and uid not in reserving:
            found.setdefault(status.node, []).append(f"{metadata['namespace']}/{metadata['name']}")
    return {node: tuple(sorted(names)) for node, names in found.items()}
