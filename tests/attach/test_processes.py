"""What processes call themselves and their files misleads nobody: the real adapter over files that stand for /proc."""

import os
from pathlib import Path

import pytest

from attach.model import Holder, Process
from attach.processes import HostProcesses
from tests.attach.test_unknown import CID, PID, POD, TICKS, WEB, processes

NULL, ZERO = os.makedev(1, 3), os.makedev(1, 5)


def pods_process(folder: Path, cgroup: str = f"/kubepods/pod{POD}/{CID}") -> tuple[HostProcesses, Path]:
    """Write the /proc of a process of a pod that has nothing open; the adapter over it, and its own folder."""
    node, own = processes(folder, cgroup), folder / str(PID)
    for name in ("fd", "task", f"task/{PID}", "map_files"):
        (own / name).mkdir()
    (own / "maps").touch()
    return node, own


@pytest.mark.parametrize("name", ["web", "a\rb", "a\x0cb", "a\x1cb", "a\u2028b", "a  b", "0", "\udcff"])
def test_no_name_of_a_file_hides_a_mapping_or_ends_the_look(tmp_path: Path, name: str) -> None:
    """A pod names its files as it likes; of what ends a line elsewhere, only the newline is escaped in /proc."""
    node, own = pods_process(tmp_path)
    line = "00001000-00002000 r--p 00000000 00:05 {} /tmp/{}\n"
    maps = line.format(8, name) + line.replace("1000", "3000").replace("2000", "4000").format(9, "gpu")
    (own / "maps").write_bytes(os.fsencode(maps))
    (own / "map_files/1000-2000").symlink_to("/proc/version")
    (own / "map_files/3000-4000").symlink_to("/dev/null")

    assert node.holders([NULL]) == [Holder(Process(PID, TICKS), NULL, CID, POD, "x", mapped=True)]


@pytest.mark.parametrize("name", ["web", "a\rb", "a\x0cb", "a\u2028b", " a  b", "0", "\udcff", ""])
def test_of_a_process_of_the_node_the_text_of_mappings_says_all(tmp_path: Path, name: str) -> None:
    """Those hide nothing, so their folder is not listed; two files are two though a file system numbers them alike."""
    node, own = pods_process(tmp_path, "/system.slice/x.service")
    line = "0000{0:x}000-0000{1:x}000 r--p 00000000 00:05 8 {2}\n"
    paths = {1: f"/data/{name}", 3: "/gpu", 5: "/lib/x"}
    maps = line.format(0, 1, "").replace(" 8 ", " 0 ") + "".join(line.format(at, at + 1, paths[at]) for at in paths)
    (own / "maps").write_bytes(os.fsencode(maps))
    for at, path in paths.items():
        (own / f"map_files/{at}000-{at + 1}000").symlink_to("/dev/null" if path == "/gpu" else "/proc/version")
    (own / "map_files/7000-8000").symlink_to("/dev/zero")  # in the folder alone

    assert node.holders([NULL, ZERO]) == [Holder(Process(PID, TICKS), NULL, "", "", "x", mapped=True)]


def test_a_mapping_that_the_text_of_them_misses_is_found_in_the_folder_of_them(tmp_path: Path) -> None:
    """One that is moved while the kernel writes the text; the folder is listed at one moment."""
    node, own = pods_process(tmp_path)
    (own / "maps").write_text("00001000-00002000 r--p 00000000 00:05 8 /lib/x\n")
    (own / "map_files/1000-2000").symlink_to("/proc/version")
    (own / "map_files/3000-4000").symlink_to("/dev/null")

    assert node.holders([NULL]) == [Holder(Process(PID, TICKS), NULL, CID, POD, "x", mapped=True)]


@pytest.mark.parametrize("character", ["\r", "\x0c", "\x1c", "\u2028"], ids=ascii)
def test_no_name_of_a_cgroup_makes_a_process_another_pods(tmp_path: Path, character: str) -> None:
    """A container makes cgroups below its own, in each tree, under names that it chooses."""
    cgroup, another = f"/kubepods/pod{POD}/{CID}", f"/kubepods/pod{'f' * 8}{POD[8:]}/{CID}"
    node, own = pods_process(tmp_path)
    (own / "fd/3").symlink_to("/dev/null")
    (own / "cgroup").write_bytes(os.fsencode(f"9:pids:{cgroup}/x{character}0::{another}\n0::{cgroup}\n"))

    assert node.holders([NULL]) == [Holder(Process(PID, TICKS), NULL, CID, POD, "x", mapped=False)]


def test_a_name_that_can_not_be_printed_as_it_is_is_told_without_harm(tmp_path: Path) -> None:
    """It may have lines of its own in a table, and orders to a terminal."""
    node, own = pods_process(tmp_path)
    (own / "fd/3").symlink_to("/dev/null")
    (own / "comm").write_bytes(b"a\x1b[2J\nGPU-1\xff\n")

    assert [holder.command for holder in node.holders([NULL])] == ["a?[2J?GPU-1\ufffd"]


def test_no_name_of_a_process_makes_it_the_first_of_its_container(tmp_path: Path) -> None:
    processes(tmp_path, f"/kubepods/pod{POD}/{CID}", PID - 1)
    node = processes(tmp_path, f"/kubepods/pod{POD}/{CID}")
    (tmp_path / str(PID - 1) / "status").write_bytes(b"Name:\t\xff\rNSpid:\t1\nNSpid:\t6\t2\n")
    (tmp_path / str(PID) / "status").write_bytes(b"Name:\tx\nNSpid:\t7\t1\n")
    cgroup = tmp_path / "kubepods" / f"pod{POD}" / CID
    cgroup.mkdir(parents=True)
    (cgroup / "cgroup.procs").write_text(f"{PID - 1}\n{PID}\n")

    container = node.find(WEB)
    assert container is not None
    assert container.init == Process(PID, TICKS)
