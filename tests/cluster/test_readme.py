"""Commands in the README of the definitions exist, and its numbers are those of the definitions."""

import re
import subprocess

from ray.scripts.scripts import cli

from tests.cluster.conftest import CLUSTER, read

README = (CLUSTER / "README.md").read_text()
COMMANDS = re.sub(r"\\\n\s*", "", "\n".join(re.findall(r"^    (.*)$", README, re.MULTILINE)))


def test_every_verb_of_dist_lstm_in_this_folder_exists():
    from typer.main import get_command

    from dist_lstm.cli.main import app

    texts = [path.read_text() for path in CLUSTER.rglob("*") if path.is_file()]
    verbs = {verb for text in texts for verb in re.findall(r"\b(?:dist-lstm|slurm\.sbatch) ([a-z]+)\b", text)}
    assert {"run", "doctor", "submit", "jobs"} <= verbs
    assert verbs <= set(get_command(app).commands)


def test_every_command_and_option_of_ray_exists():
    words = [line.split(" -- ")[0].split("#")[0].split() for line in COMMANDS.splitlines()]
    words = [
        line[line.index("ray") + 1 :] for line in words if "ray" in line and line[line.index("ray") - 1] == "run"
    ]
    assert len(words) >= 10
    for line in words:
        command = cli
        while line and hasattr(command, "commands"):
            command = command.commands[line.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in line if word.startswith("--")} <= options, line


def test_every_placeholder_of_the_readme_is_in_its_definition():
    for line in COMMANDS.splitlines():
        if replaced := re.findall(r"(?<=s\|)([\w.\\{}-]+)\|", line):
            name = re.search(r"cluster/([\w/.-]+\.yaml)", line)
            assert name, line
            text = (CLUSTER / name[1]).read_text()
            for pattern in replaced:
                assert re.search(pattern.replace("\\{", "{").replace("\\}", "}"), text), (name[1], pattern)


def test_the_table_of_costs_has_the_numbers_of_the_definitions():
    rows = dict(re.findall(r"^\| \[`([\w/.-]+)`].*?\|.*?\| (.*) \|$", README, re.MULTILINE))
    expected = {}
    for name in ("ray-aws.yaml", "ray-gcp.yaml"):
        node = read(name)["available_node_types"]["gpu"]
        expected[name] = (node["resources"]["GPU"], node["min_workers"], node["max_workers"])
    for name in ("kubernetes/raycluster.yaml", "kubernetes/rayjob.yaml"):
        spec = read(name)["spec"]
        group = spec.get("rayClusterSpec", spec)["workerGroupSpecs"][0]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        expected[name] = (int(limits["nvidia.com/gpu"]), group["minReplicas"], group["maxReplicas"])
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\d+)$", (CLUSTER / "slurm.sbatch").read_text(), re.MULTILINE))
    expected["slurm.sbatch"] = (int(asked["gpus-per-node"]), 0, int(asked["nodes"]))
    assert rows.pop("ray-onprem.yaml")
    assert rows == {
        name: f"{least * gpus} | {gpus} | {most * gpus}" for name, (gpus, least, most) in expected.items()
    }


def test_submitted_jobs_request_a_whole_node():
    asked = re.findall(r"resources\.gpus=(\d+)", README)
    assert asked
    assert set(asked) == {str(read("ray-aws.yaml")["available_node_types"]["gpu"]["resources"]["GPU"])}


def test_the_readme_names_the_python_of_the_image():
    python = re.search(r"^FROM python:(3\.\d+)-", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    assert python
    assert f"Python {python[1]} with the packages" in README


def test_its_commands_are_valid_bash():
    subprocess.run(["bash", "-n"], input=COMMANDS, text=True, check=True)


def test_it_shows_no_token():
    assert "get-auth-token" in COMMANDS
    for line in COMMANDS.splitlines():
        assert "get-auth-token" not in line or "> /dev/null" in line
