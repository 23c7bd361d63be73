"""EDGE: the example of a job whose containers are phases, on a real node, and what each of them could do."""

from typing import Final

import yaml

from attach.api import Attachment, parse_attachment
from kube.api import Object
from kube.kinds import GPU_ATTACHMENTS, PODS
from tests.cluster.install import ROOT
from tests.cluster.real.borrow import CONTAINER, MOVES_S, attempt
from tests.system.user import User
from tests.waiting import eventually

EXAMPLE: Final = ROOT / "manifests/examples/gpu-phase.yaml"
PHASES: Final = ("preprocess", "infer", "postprocess")


def score(node: str, gpu: Object, account: str) -> Object:
    """Take the job of the example, with the images and the class of these tests; each phase tries the device twice."""
    (job,) = (each for each in yaml.safe_load_all(EXAMPLE.read_text()) if each["kind"] == "Job")
    template = job["spec"]["template"]
    template["metadata"]["annotations"]["podsla.io/class"] = "borrow"
    spec = template["spec"]
    spec |= {"nodeSelector": {"kubernetes.io/hostname": node}, "serviceAccountName": account, "volumes": []}
    for each in (*spec["initContainers"], *spec["containers"]):
        script = f'{attempt(gpu)}; echo "${{CUDA_VISIBLE_DEVICES-none}}"; sleep 1; {attempt(gpu)}'
        each |= {**CONTAINER, "imagePullPolicy": "Never", "command": ["sh", "-c", script], "volumeMounts": []}
    return dict(job)


def wait_scored(user: User, where: str) -> Object:
    """Wait until the job's pod has run; the pod."""

    def ended() -> list[Object]:
        found = user.api.list(PODS, where, labelSelector="job-name=score")
        return [each for each in found if each["status"].get("phase") in ("Succeeded", "Failed")]

    (over,) = eventually(ended, "the job's pod has run", MOVES_S)
    return over


def seen(user: User, where: str, pod: str) -> dict[str, list[str]]:
    """What each phase said: an attempt, which device it was told of, another attempt."""
    return {phase: user.kubectl("-n", where, "logs", pod, "-c", phase).stdout.split() for phase in PHASES}


def had_in_the_second_alone(gpu: Object) -> dict[str, list[str]]:
    """What is to be seen."""
    without = ["denied", "none", "denied"]
    return {"preprocess": without, "infer": ["opens", gpu["uuid"], "opens"], "postprocess": without}


def lent(user: User, where: str, pod: str = "") -> list[Attachment]:
    """List the attachments of a namespace, or of one pod in it, the first one first."""
    found = [parse_attachment(each) for each in user.api.list(GPU_ATTACHMENTS, where)]
    return sorted((one for one in found if pod in ("", one.spec.pod_name)), key=lambda one: one.created_s)
