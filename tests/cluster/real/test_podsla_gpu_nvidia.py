"""On a machine with an NVIDIA GPU: the job of three phases has that one, in its second phase alone."""

from pathlib import Path
from typing import Final

import pytest

from tests.cluster.gpus import nvidia_gpus
from tests.cluster.real.test_podsla_gpu_phase import offered, run_three_phases
from tests.cluster.state import Cluster
from tests.system.user import User

DRIVER: Final = Path("/proc/driver/nvidia/version")

pytestmark = [
    pytest.mark.nodes,
    pytest.mark.skipif(not DRIVER.exists(), reason="no NVIDIA driver is loaded on this machine"),
]


def test_a_job_of_three_phases_has_the_nvidia_gpu_in_its_second_one_alone(installed: User, cluster: Cluster) -> None:
    if not (found := nvidia_gpus()):
        pytest.skip("every NVIDIA GPU of this machine is partitioned or unhealthy")
    with offered(installed, cluster, found[0]) as gpu:
        run_three_phases(installed, gpu)
