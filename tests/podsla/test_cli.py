"""The command line as its user sees it: output, messages, exit codes."""

import io
import json
from collections.abc import Sequence

import pytest
import yaml

from tests.podsla.shell import CATALOG, POD, Ran, Shell


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

    def test_a_catalogue_that_is_misspelt(self, shell: Shell) -> None:
        ran = shell.run("catalog", "lint", "esc")

        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith("esc: is no shipped catalogue and no file; did you mean ecs?\n")

    def test_an_import_that_cannot_be_read(self, shell: Shell) -> None:
        ran = shell.run("catalog", "import", "ecs", shell.file("x.csv", "a,b\n1,2\n"))

        assert ran.code == 3
        assert "x.csv" in ran.err


def test_a_command_that_is_misspelt(shell: Shell) -> None:
    for words, end in ((["whi"], "'whi'; did you mean why?\n"), (["catalog", "lnit"], "'lnit'; did you mean lint?\n")):
        ran = shell.run(*words)

        assert (ran.code, ran.out) == (2, "")
        assert ran.err.endswith(f"no such command {end}")


def test_what_holds_no_pod_cannot_be_explained(shell: Shell) -> None:
    text = "apiVersion: podsla.io/v1beta1\nkind: SpecCatalog\nmetadata: {name: c}\nspec: {}\n"
    ran = shell.run("explain", "-f", shell.file("catalog.yaml", text), "-o", "json")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("catalog.yaml: no document holds a pod or a pod template\n")


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
        pytest.param(["catalog", "diff", "--revision", "1"], id="a revision of no catalogue"),
        pytest.param(["catalog", "diff", "--revision", "1", "a", "b"], id="a revision of two catalogues"),
        pytest.param(["catalog", "diff", "--revision", "1", "--cluster", "a"], id="a revision, and files too"),
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
    assert ran.err.startswith("finding a cluster: /nowhere/config: ")
    assert ran.err.endswith("; name one with --kubeconfig\n")


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion(shell: Shell, name: str) -> None:
    ran = shell.run("completion", name)

    assert (ran.code, "_PODSLA_COMPLETE" in ran.out) == (0, True)


def test_completion_knows_the_commands(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PODSLA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "podsla catalog ro")
    monkeypatch.setenv("COMP_CWORD", "2")

    assert shell.run().out == "plain,rollback\n"


def test_as_a_plugin_it_calls_itself_as_it_was_called(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/local/bin/kubectl-podsla"])

    assert shell.run("why", "--help").out.startswith("Usage: kubectl podsla why")
