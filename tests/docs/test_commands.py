"""Every command line in the documentation is one that exists: the program, its options, the resources and values it names."""

import re
import string
from functools import cache
from itertools import product

import pytest
import typer
from chart_docs import CHART, read_values

from pilotfish.cli.main import app
from support.doc_blocks import ROOT, SHELLS, Command, blocks, commands, pages
from support.helm import NAMESPACE, helm

OTHERS = {
    "age-keygen",
    "aws",
    "curl",
    "grep",
    "model_signing",
    "openssl",
    "python3",
    "tail",
    "tritonserver",
    "cat",
    "cd",
    "export",
    "kustomize",
    "flux",
    "git",
    "jq",
    "tensorboard",
    "kubectl-pilotfish",
    "pip",
    "chmod",
    "mkdir",
    "ln",
    "promtool",
    "sort",
    "watch",
    "perf_analyzer",
    "eval",
    "source",
    "echo",
    "head",
}
"""Programs of others: known not to be typing errors, and not looked into."""
RESOURCES = {
    "mdep", "modeldeployment", "modeldeployments", "modeldeployment.pilotfish.dev", "modeldeployments.pilotfish.dev",
    "pod", "pods", "po", "service", "services", "svc", "deployment", "deployments", "deploy", "job", "jobs", "event", "events",
    "node", "nodes", "namespace", "namespaces", "ns", "secret", "secrets", "configmap", "configmaps", "cm", "pvc",
    "persistentvolumeclaim", "persistentvolumeclaims", "controllerrevision", "controllerrevisions", "hpa", "lease", "leases",
    "httproute", "grpcroute", "gateway", "networkpolicy", "networkpolicies", "netpol", "pdb", "crd", "podmonitor", "podmonitors",
    "resourcequota", "resourcequotas", "quota", "storageclass", "storageclasses", "pv", "prometheusrule", "prometheusrules",
    "validatingadmissionpolicy", "validatingadmissionpolicies", "customresourcedefinition", "serviceaccount", "endpointslices",
    "replicaset", "replicasets", "rs", "kustomization", "gitrepository", "horizontalpodautoscaler", "scaledobject",
    "apiservice", "apiservices", "limitrange", "limitranges", "clusterrole", "rolebinding", "application", "applications",
}  # fmt: skip
ON_RESOURCES = {"get", "describe", "delete", "wait", "patch", "label", "annotate", "edit", "scale", "explain"}
VALUED = {"-n", "--namespace", "-l", "--selector", "-o", "--output", "-f", "--filename", "-c", "--container", "--type", "-p", "--patch", "--for", "--context", "--kubeconfig", "--sort-by", "--field-selector", "-k", "-L"}  # fmt: skip
PROGRAMS = ("pilotfish", "kubectl", "helm", "make", "python", "pytest")


def program(command: Command) -> str:
    return command.words[0].removeprefix(".venv/bin/") if command.words else ""


def of(name: str) -> list[Command]:
    found = [command for command in commands() if program(command) == name]
    assert found, f"no {name} in the documentation: is it still read?"
    return found


def test_shell_blocks_call_known_programs_alone():
    in_shells = {block.where for block in blocks(*SHELLS)}
    unknown = [
        f"{command.where}: {command.line}"
        for command in commands()
        if command.where in in_shells
        and program(command) not in {*PROGRAMS, *OTHERS}
        and not re.fullmatch(r"[A-Za-z_]+=.*|#.*|hack/\S+|build/\S+", command.words[0], re.DOTALL)
    ]
    assert not unknown


@cache
def cli():
    return typer.main.get_command(app)


def parse(words: tuple[str, ...]) -> str | None:
    """What the program says against these arguments; None when it takes them."""
    command, context, rest = cli(), None, list(words)
    try:
        while hasattr(command, "commands"):
            if not rest:
                return None
            if rest[0] not in command.commands:
                return f"no command {rest[0]}" if rest[0] != "--help" else None
            command, rest = command.commands[rest[0]], rest[1:]
        context = command.make_context("pilotfish", rest)
    except Exception as error:  # noqa: BLE001 - click and typer have a family of their own each
        said = str(error) or type(error).__name__
        # Files of the reader's own are not there.
        return None if "does not exist" in said or type(error).__name__ == "Exit" else said
    finally:
        if context is not None:
            context.close()
    return None


def test_pilotfish_command_lines_are_taken():
    wrong = [f"{c.where}: {c.line}: {said}" for c in of("pilotfish") if (said := parse(c.words[1:])) is not None]
    assert not wrong


def test_the_parser_of_this_test_sees_mistakes():
    assert parse(("get", "digits", "--wach")) is not None
    assert parse(("gett", "digits")) is not None
    assert parse(("promote",)) is not None
    assert parse(("promote", "digits", "--full")) is None


def test_commands_in_sentences_and_tables_exist():
    wrong = []
    for page in pages():
        for found in re.finditer(r"`(?:kubectl )?pilotfish ([a-z][^`\n]*)`", page.read_text(encoding="utf-8")):
            words = found[1].replace("[", "").replace("]", "").split()
            command = cli()
            while words and hasattr(command, "commands"):
                name = words.pop(0)
                if name not in command.commands:
                    wrong.append(f"{page.name}: {found[0]}")
                    break
                command = command.commands[name]
            known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
            wrong += [
                f"{page.name}: {found[0]}: {w}"
                for w in words
                if w.startswith("-") and w.split("=")[0] not in {*known, "--help"}
            ]
    assert not wrong


def test_kubectl_names_real_resources():
    wrong = []
    for command in of("kubectl"):
        words = positional(command.words[1:])
        if not words or words[0] not in ON_RESOURCES or any(w in ("-f", "-k") for w in command.words):
            continue
        named = (
            [part.partition("/")[0].partition(".spec")[0].partition(".status")[0] for part in words[1].split(",")]
            if len(words) > 1
            else []
        )
        wrong += [f"{command.where}: {command.line}: {name}" for name in named if name.lower() not in RESOURCES]
    assert not wrong


def positional(words: tuple[str, ...]) -> list[str]:
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in VALUED:
            skip = True
        elif not word.startswith("-"):
            found.append(word)
    return found


def test_helm_sets_values_that_exist():
    known = {value.name for value in read_values((CHART / "values.yaml").read_text())}
    wrong = []
    for command in of("helm"):
        for option, told in zip(command.words, command.words[1:], strict=False):
            if option in ("--set", "--set-string"):
                path = re.sub(r"\[\d+\].*", "", told.partition("=")[0])
                if path not in known and not any(is_users_own(path, name) for name in known):
                    wrong.append(f"{command.where}: {path}")
        wrong += [
            f"{command.where}: {word}"
            for word in command.words
            if word.startswith("charts/") and not (ROOT / word).exists()
        ]
    assert not wrong


def test_helm_takes_these_lines():
    """By the real program: values against the schema, templates against the values."""
    seen = 0
    for command in of("helm"):
        if "charts/pilotfish" not in command.words or command.words[1] not in ("install", "upgrade"):
            continue
        sets = [
            part for pair in zip(command.words, command.words[1:], strict=False) if pair[0] == "--set" for part in pair
        ]
        done = helm("template", "pilotfish", str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.36.0", *sets)
        assert done.returncode == 0, f"{command.where}: {command.line}: {done.stderr}"
        seen += 1
    assert seen >= 5


def is_users_own(path: str, name: str) -> bool:
    """A key below a value that is a mapping of the user's own, such as labels."""
    return path.startswith(f"{name}.") and name.endswith(
        ("labels", "Labels", "annotations", "selector", "nodeSelector")
    )


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for command in of("make"):
        for word in command.words[1:]:
            assert word in targets or "=" in word, f"{command.where}: make {word}"


@pytest.mark.parametrize("name", ["python", "pytest"])
def test_files_of_this_tree_exist(name: str):
    for command in of(name):
        for word in command.words[1:]:
            for path in expand(word.partition("::")[0]):
                if path.startswith(("tests/", "hack/", "examples/")):
                    assert list(ROOT.glob(path)), f"{command.where}: {path} does not exist"


def expand(word: str) -> list[str]:
    """A shell's braces."""
    parts = re.split(r"\{([^}]*)\}", word)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def test_files_that_pages_name_exist():
    """`tests/…`, `operator/…`, `docs/…` in running text."""
    wrong = []
    for page in [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]:
        for found in re.finditer(
            r"`?\b((?:tests|docs|hack|charts|examples|images|crds)/[\w./*{},-]*\w)", page.read_text(encoding="utf-8")
        ):
            if found.string[max(found.start(1) - 1, 0)] in "/-:.":
                continue
            paths = expand(found[1])
            wrong += [f"{page.name}: {path}" for path in paths if not exists(path)]
    assert not wrong


def exists(path: str) -> bool:
    """In the tree, as it is or as a page."""
    return bool(list(ROOT.glob(path))) or (ROOT / f"{path}.md").exists()


def test_secrets_in_examples_are_no_real_ones():
    allowed = set(string.ascii_letters + string.digits + "-_.:/$")
    for command in of("kubectl"):
        for word in command.words:
            if word.startswith("--from-literal="):
                assert set(word.partition("=")[2].partition("=")[2]) <= allowed, command.where
                assert len(word) < 80, command.where
