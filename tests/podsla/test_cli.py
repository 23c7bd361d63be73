"""The command line as its user sees it: output, messages, exit codes."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest
import yaml

import podsla.commands
from podsla.cli import cli, main
from podsla.commands.groups import Lazy

pytestmark = pytest.mark.usefixtures("no_cluster")

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {podsla.io/class: net-intensive}}
spec:
  futureField: 1.50
  containers: [{name: app, image: x, resources: {requests: {cpu: 0.5}}}]
"""
CATALOG = """\
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: mine}
spec:
  classes:
  - {name: steady, description: Mine., floor: {cpu: {baseMHz: 3000}}, sizes: {families: [ecs.hfc7]}}
"""


@dataclass(frozen=True)
class Ran:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `podsla` in a folder of files."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.capsys = folder, capsys
        monkeypatch.chdir(folder)

    def file(self, name: str, text: str) -> str:
        """Write a file."""
        (self.folder / name).write_text(text)
        return name

    def run(self, *arguments: str) -> Ran:
        """Run a command."""
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = self.capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)


def reported(form: str, text: str) -> list[tuple[str, str, str]]:
    """Reason, file and message of everything in a report."""
    if form in ("json", "yaml"):
        found = json.loads(text) if form == "json" else yaml.safe_load(text)
        return [(one["reason"], one["file"], one["message"]) for one in found]
    if form == "junit":
        cases = ET.fromstring(text)  # noqa: S314 - it is our own
        return [
            (str(case.get("name")).rpartition(": ")[2], str(case.get("classname")), str(case[0].get("message")))
            for case in cases
        ]
    results = json.loads(text)["runs"][0]["results"]
    places = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results]
    return [(one["ruleId"], uri, one["message"]["text"]) for one, uri in zip(results, places, strict=True)]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


class TestAdmit:
    def test_the_changed_document_keeps_order_unknown_fields_and_numerals(self, shell: Shell) -> None:
        ran = shell.run("admit", "-f", shell.file("pod.yaml", POD))

        assert ran.code == 0
        assert ran.err.startswith("Pod/p: ecs.c6e.xlarge for class net-intensive; ")
        assert list(yaml.safe_load(ran.out)) == ["apiVersion", "kind", "metadata", "spec"]
        assert "futureField: 1.50\n" in ran.out
        assert "cpu: 0.5\n" in ran.out

    def test_json_keeps_numerals_too(self, shell: Shell) -> None:
        ran = shell.run("admit", "-f", shell.file("pod.yaml", POD), "-o", "json")

        assert '"futureField": 1.50' in ran.out
        assert json.loads(ran.out)["metadata"]["labels"] == {"podsla.io/size": "ecs.c6e.xlarge"}

    def test_a_patch_has_only_additions(self, shell: Shell) -> None:
        ran = shell.run("admit", "-f", shell.file("pod.yaml", POD), "-o", "patch")

        assert {operation["op"] for operation in json.loads(ran.out)} == {"add"}

    def test_a_class_for_pods_that_name_none(self, shell: Shell) -> None:
        text = POD.replace(", annotations: {podsla.io/class: net-intensive}", "")
        ran = shell.run("admit", "-f", shell.file("pod.yaml", text), "--class", "batch", "-o", "json")

        assert json.loads(ran.out)["metadata"]["annotations"]["podsla.io/class"] == "batch"

    def test_every_item_of_a_list_and_every_document(self, shell: Shell) -> None:
        items = "".join(f"- {line}\n" if i == 0 else f"  {line}\n" for i, line in enumerate(POD.splitlines()))
        shell.file("list.yaml", f"apiVersion: v1\nkind: List\nitems:\n{items}---\n{POD}")
        ran = shell.run("admit", "-f", "list.yaml", "-o", "table")

        assert [line.split()[:3] for line in ran.out.splitlines()[1:]] == [
            ["Pod/p", "net-intensive", "ecs.c6e.xlarge"]
        ] * 2

    def test_a_daemonsets_pods_are_reserved_for_and_not_placed(self, shell: Shell) -> None:
        metadata = "metadata: {annotations: {podsla.io/class: net-intensive}}"
        text = f"apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: d}}\nspec:\n  template:\n    {metadata}\n"
        text += "    spec: {containers: [{name: app, image: x}]}\n"
        template = yaml.safe_load(shell.run("admit", "-f", shell.file("d.yaml", text)).out)["spec"]["template"]

        assert "affinity" not in template["spec"]
        assert template["spec"]["containers"][0]["resources"]["limits"] == {"podsla.io/pps": "600k"}

    def test_one_refused_pod_and_nothing_is_printed(self, shell: Shell) -> None:
        shell.file("a.yaml", POD)
        shell.file("b.yaml", POD.replace("net-intensive", "net-intensiv"))
        ran = shell.run("admit", "-f", ".")

        assert (ran.code, ran.out) == (1, "")
        assert (
            "Pod/p: refused, UnknownClass: class 'net-intensiv' is in no catalogue; "
            "did you mean net-intensive or disk-intensive?" in ran.err
        )
        assert ran.err.endswith("1 of 2 pods refused; nothing printed\n")

    def test_a_namespace_gives_its_default_class(self, shell: Shell) -> None:
        text = POD.replace(", annotations: {podsla.io/class: net-intensive}", "")
        ran = shell.run(
            "admit",
            "-f",
            shell.file("p.yaml", text),
            "-o",
            "table",
            "--namespace-labels",
            "podsla.io/default-class=batch",
        )

        assert "batch" in ran.out

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("", "x.yaml: is empty; write a document or remove the file", id="an empty file"),
            pytest.param("a: [", "x.yaml:2: this is not YAML: did not find expected node content", id="no YAML"),
            pytest.param("- 1\n", "x.yaml:1: holds list, and a manifest is a mapping", id="a list"),
            pytest.param("a: 1\na: 2\n", "x.yaml:2: a: is written twice (first on line 1); keep one", id="a key twice"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, shell: Shell, text: str, message: str) -> None:
        ran = shell.run("admit", "-f", shell.file("x.yaml", text))

        assert (ran.code, ran.out) == (3, "")
        assert ran.err.splitlines()[0] == message

    def test_a_missing_file(self, shell: Shell) -> None:
        assert shell.run("admit", "-f", "no.yaml") == Ran(
            3, "", "no.yaml: cannot be read: No such file or directory\n1 problem; nothing was taken over\n"
        )

    def test_a_pod_without_containers_is_told_so(self, shell: Shell) -> None:
        ran = shell.run(
            "admit", "-f", shell.file("p.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}\n")
        )

        assert ran.code == 1
        assert "InvalidPod: spec.containers must name at least one container" in ran.err

    def test_ten_thousand_files(self, shell: Shell) -> None:
        for number in range(10_000):
            shell.file(f"{number}.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n")
        ran = shell.run("admit", "-f", ".", "-o", "table")

        assert ran.code == 0
        assert "no document holds a pod" in ran.err

    def test_a_folder_within_a_folder_is_read_when_asked(self, shell: Shell) -> None:
        (shell.folder / "sub").mkdir()
        shell.file("sub/pod.yaml", POD)
        shell.file("empty.yaml", "# nothing\n")

        assert "Pod/p" not in shell.run("admit", "-f", ".", "-o", "table").out
        assert "Pod/p" in shell.run("admit", "-f", ".", "-R", "-o", "table").out

    def test_empty_standard_input(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))

        assert shell.run("admit", "-f", "-").code == 3

    def test_a_class_on_the_deployment_itself_is_pointed_out(self, shell: Shell) -> None:
        text = "kind: Deployment\nmetadata: {name: d, namespace: n, annotations: {podsla.io/class: batch}}\n"
        text += "spec: {template: {spec: {containers: [{name: app}]}}}\n"
        ran = shell.run("admit", "-f", shell.file("d.yaml", text), "-q")

        assert " ".join(ran.err.split()) == (
            "warning: podsla.io/class in metadata.annotations has no effect; move it to "
            "spec.template.metadata.annotations"
        )

    def test_what_yaml_and_json_would_confuse_survives(self, shell: Shell) -> None:
        text = POD.replace("futureField: 1.50", "a: '1e10'\n  b: 'y'\n  c: .5\n  d: .inf")
        shell.file("pod.yaml", text)

        assert "a: '1e10'\n  b: 'y'\n  c: .5\n  d: .inf\n" in shell.run("admit", "-f", "pod.yaml").out
        spec = json.loads(shell.run("admit", "-f", "pod.yaml", "-o", "json").out)["spec"]
        assert (spec["a"], spec["b"], spec["c"], spec["d"]) == ("1e10", "y", 0.5, ".inf")


class TestExplain:
    def test_it_says_what_drove_the_size_and_what_the_near_ones_lack(self, shell: Shell) -> None:
        text = POD.replace("net-intensive}", "net-intensive, podsla.io/min-pps: 1500k}")
        ran = shell.run("explain", "-f", shell.file("pod.yaml", text))

        assert ran.out.splitlines()[2] == "  network.pps 1500k drove it (without that, ecs.c6e.xlarge would do)"
        assert "lacks network.pps 950k of 1500k" in ran.out
        assert "chosen" in ran.out

    def test_the_same_for_a_script(self, shell: Shell) -> None:
        explained = json.loads(shell.run("explain", "-f", shell.file("pod.yaml", POD), "-o", "json").out)

        assert explained["size"] == "ecs.c6e.xlarge"
        assert [row["dimension"] for row in explained["dimensions"]] == [
            "vcpu",
            "memory",
            "network.pps",
            "network.queues",
        ]

    def test_a_refusal_is_explained_and_is_exit_code_1(self, shell: Shell) -> None:
        text = POD.replace("cpu: 0.5", "cpu: 5000")
        ran = shell.run("explain", "-f", shell.file("pod.yaml", text))

        assert ran.code == 1
        assert "vcpu asks 5000, best is" in ran.out


class TestCatalog:
    def test_the_first_class_of_a_new_user(self, shell: Shell) -> None:
        shell.file("mine.yaml", CATALOG)

        assert shell.run("catalog", "lint", "ecs", "mine.yaml").code == 0
        table = shell.run("classes", "--catalog", "ecs", "--catalog", "mine.yaml").out
        assert table.splitlines()[1].split()[0] == "steady"

    def test_a_class_without_its_sizes_names_what_is_missing(self, shell: Shell) -> None:
        ran = shell.run("catalog", "lint", shell.file("mine.yaml", CATALOG))

        assert ran.code == 3
        assert ran.err.splitlines()[0] == (
            "mine.yaml:6: spec.classes[0]: no size is loaded to serve it; name the catalogue that has them too, as the "
            "shipped `ecs`"
        )

    def test_the_shipped_catalogue_has_no_errors_on_any_target(self, shell: Shell) -> None:
        for target in ("kubernetes", "calico", "koordinator", "ack-eci"):
            assert shell.run("catalog", "lint", "--target", target).code == 0

    def test_lint_for_continuous_integration(self, shell: Shell) -> None:
        shell.file("mine.yaml", CATALOG.replace("3000", "3300"))
        shell.file(
            "t.yaml", "apiVersion: podsla.io/v1beta1\nkind: Target\nmetadata: {name: t}\nspec: {consumers: []}\n"
        )
        ran = shell.run("catalog", "lint", "ecs", "mine.yaml", "--target", "./t.yaml", "-o", "junit")

        assert ran.code == 1
        assert '<testsuite name="podsla catalog lint on t" tests="2" failures="1" errors="0" skipped="1">' in ran.out

    @pytest.mark.parametrize(
        ("arguments", "file", "said"),
        [
            pytest.param(["gone.yaml"], "gone.yaml", "cannot be read: No such file or directory", id="not there"),
            pytest.param(["no.yaml"], "no.yaml", "this is not YAML: ", id="no YAML"),
            pytest.param(["flor.yaml"], "flor.yaml", "is not a field here; did you mean floor?", id="a wrong field"),
            pytest.param(
                ["ecs", "--target", "calic"], "calic", "is no shipped target and no file", id="no such target"
            ),
        ],
    )
    @pytest.mark.parametrize("form", ["json", "yaml", "junit", "sarif"])
    def test_a_file_that_cannot_be_used_is_in_every_report(
        self, shell: Shell, form: str, arguments: list[str], file: str, said: str
    ) -> None:
        shell.file("no.yaml", "{")
        shell.file("flor.yaml", CATALOG.replace("floor", "flor"))
        ran = shell.run("catalog", "lint", *arguments, "-o", form)

        assert (ran.code, said in ran.err) == (3, True)
        told = reported(form, ran.out)
        assert [one[:2] for one in told] == [("UnusableFile", file)] * len(told)
        assert any(said in message for _, _, message in told), told

    def test_a_lowered_figure_breaks_pods_that_rely_on_it(self, shell: Shell) -> None:
        size = "{name: s.large, vcpu: 2, memory: 4Gi, network: {pps: PPS}}"
        head = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: c}\n"
        text = (
            f"{head}spec:\n  sizes: [{size}]\n  classes: [{{name: net-intensive, floor: {{network: {{pps: 400k}}}}}}]\n"
        )
        shell.file("old.yaml", text.replace("PPS", "600k").replace("vcpu: 2", "vcpu: '2'"))
        shell.file("new.yaml", text.replace("PPS", "400k").replace("vcpu: 2", "vcpu: '2'"))
        ran = shell.run("catalog", "diff", "old.yaml", "new.yaml", "--pods", shell.file("pod.yaml", POD))

        assert ran.code == 1
        assert "~ size s.large: network.pps 600k → 400k (lowered)" in ran.out
        assert "Pod/p  Breaks" in ran.out

    def test_what_autoscalers_must_know(self, shell: Shell) -> None:
        overlays = list(yaml.safe_load_all(shell.run("catalog", "export", "karpenter", "ecs.c7.xlarge").out))

        assert overlays[0]["kind"] == "NodeOverlay"
        assert overlays[0]["spec"]["capacity"]["podsla.io/pps"] == "950000"

    def test_an_unknown_size_is_a_usage_error_with_the_nearest(self, shell: Shell) -> None:
        ran = shell.run("catalog", "show", "ecs.c7.xlarg")

        assert ran.code == 2
        assert "did you mean ecs.c7.xlarge" in ran.err

    def test_a_shipped_target_can_be_copied(self, shell: Shell) -> None:
        shell.file("mine.yaml", shell.run("targets", "kubernetes").out)

        assert shell.run("classes", "--target", "mine.yaml").code == 0

    def test_an_import_that_cannot_be_read(self, shell: Shell) -> None:
        ran = shell.run("catalog", "import", "ecs", shell.file("x.csv", "a,b\n1,2\n"))

        assert ran.code == 3
        assert "x.csv" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["nothing"], id="no such command"),
        pytest.param(["admit"], id="no file"),
        pytest.param(["admit", "-f", "x", "-o", "xml"], id="no such form"),
        pytest.param(["admit", "-f", "x", "--namespace-labels", "a"], id="no label"),
        pytest.param(["classes", "nett"], id="no such class"),
        pytest.param(["explain", "-f", "x", "--near", "-3"], id="a negative number"),
        pytest.param(["targets", "calic"], id="no such target"),
        pytest.param(["explain"], id="neither files nor a running pod"),
        pytest.param(["explain", "pod", "x", "-f", "y"], id="files and a running pod"),
        pytest.param(["explain", "deployment", "x"], id="nothing that is a pod"),
        pytest.param(["catalog", "diff", "old.yaml"], id="one catalogue to compare"),
        pytest.param(["catalog", "diff", "--cluster"], id="nothing to compare a cluster with"),
        pytest.param(["catalog", "diff", "--cluster", "a", "--pods", "b"], id="pods of files for a cluster"),
        pytest.param(["catalog", "rollback", "x", "--to-revision", "0"], id="revisions begin at 1"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(shell: Shell, arguments: Sequence[str]) -> None:
    ran = shell.run(*arguments)

    assert ran.code == 2
    assert "Error: " in ran.err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["admit"],
        ["explain"],
        ["classes"],
        ["catalog"],
        ["catalog", "diff"],
        ["webhook"],
        ["why"],
        ["top"],
        ["doctor"],
        ["catalog", "status"],
        ["catalog", "history"],
        ["catalog", "rollback"],
        ["completion"],
    ],
)
def test_every_command_explains_itself(shell: Shell, command: Sequence[str]) -> None:
    ran = shell.run(*command, "--help")

    assert ran.code == 0
    assert ran.out.startswith("Usage: podsla")


@pytest.mark.parametrize(
    "command",
    [["why", "x"], ["top"], ["doctor"], ["explain", "pod", "x"], ["catalog", "status"], ["catalog", "history", "x"]],
    ids=" ".join,
)
def test_without_a_cluster_a_command_says_how_to_name_one(
    shell: Shell, command: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    ran = shell.run(*command)

    assert (ran.code, ran.out) == (3, "")
    assert "name one with --kubeconfig" in ran.err


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion(shell: Shell, name: str) -> None:
    ran = shell.run("completion", name)

    assert (ran.code, "_PODSLA_COMPLETE" in ran.out) == (0, True)


class TestWhichCluster:
    """Where a cluster is named, it is asked and nobody else."""

    COMMANDS = (("classes",), ("admit", "-f", "pod.yaml"), ("explain", "-f", "pod.yaml"))

    @pytest.fixture(params=["KUBECONFIG", "home", "option"])
    def named(self, request: pytest.FixtureRequest, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
        """Name a cluster that is nowhere; what the command line says of it."""
        shell.file("pod.yaml", POD)
        config = shell.folder / shell.file("config", "{}")
        if request.param == "KUBECONFIG":
            monkeypatch.setenv("KUBECONFIG", str(config))
        elif request.param == "home":
            (shell.folder / ".kube").mkdir()
            config.rename(shell.folder / ".kube/config")
            monkeypatch.setenv("HOME", str(shell.folder))
        return ("--kubeconfig", str(config)) if request.param == "option" else ()

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
    def test_one_that_is_named_and_cannot_be_found_ends_it(
        self, shell: Shell, named: tuple[str, ...], command: tuple[str, ...]
    ) -> None:
        ran = shell.run(*command, *named)

        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith("finding a cluster: Invalid kube-config file.")
        assert ran.err.endswith("; --target kubernetes asks the shipped catalogue and no cluster\n")

    @pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
    @pytest.mark.parametrize("files", [("--target", "kubernetes"), ("--catalog", "ecs", "--catalog", "classes")])
    def test_files_mean_no_cluster(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], files: tuple[str, ...]
    ) -> None:
        shell.file("pod.yaml", POD)
        monkeypatch.setenv("KUBECONFIG", str(shell.folder / "gone"))

        assert shell.run(*command, *files).code == 0
        both = shell.run(*command, *files, "--context", "x")
        assert (both.code, "mean files, and no cluster" in both.err) == (2, True)

    def test_a_running_pod_is_not_judged_by_files(self, shell: Shell) -> None:
        ran = shell.run("explain", "pod", "web", "--target", "kubernetes")

        assert (ran.code, "leave out --catalog and --target" in ran.err) == (2, True)


def test_completion_knows_the_commands(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PODSLA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "podsla catalog ro")
    monkeypatch.setenv("COMP_CWORD", "2")

    assert shell.run().out == "plain,rollback\n"


def test_as_a_plugin_it_calls_itself_as_it_was_called(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/local/bin/kubectl-podsla"])

    assert shell.run("why", "--help").out.startswith("Usage: kubectl podsla why")


def commands(group: Lazy = cli) -> Iterator[tuple[str, click.Command]]:
    """Every command of a group and of the groups in it, by the name that it is called by."""
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        assert found is not None, name
        yield name, found
        if isinstance(found, Lazy):
            yield from commands(found)


def test_every_command_that_is_written_can_be_called_by_its_name() -> None:
    folder = Path(podsla.commands.__file__).parent
    written = {
        name
        for file in folder.glob("*.py")
        for name in re.findall(r"^def (\w+)_command\(", file.read_text(), re.MULTILINE)
    }

    assert sorted(name for name, _ in commands()) == sorted(written)
    assert all(found.name == name for name, found in commands())


def test_a_command_imports_nothing_that_another_one_needs() -> None:
    script = "import sys; from podsla.cli import main\ntry: main(['why', '--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())

    assert "podsla.commands.why" in loaded
    assert not loaded & {"podsla.commands.lend", "catalog.importers", "podsla.reports", "asyncio", "kubernetes"}
