"""The compose files fit the Compose schema, each other, the image and the code's own names."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path

import jsonschema
import pytest
from support.infra import INFRA, PROJECT, documents

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text())
(COMPOSE,) = documents("compose/compose.yaml")
(GPU,) = documents("compose/gpu.yaml")
SERVICES = COMPOSE["services"]

every_service = pytest.mark.parametrize("name", SERVICES)


@pytest.mark.parametrize("file", [COMPOSE, GPU], ids=["compose", "gpu"])
def test_a_file_fits_the_schema(file):
    jsonschema.Draft7Validator(SCHEMA).validate(file)


@every_service
def test_what_a_service_refers_to_exists(name):
    one = SERVICES[name]
    for secret in one.get("secrets", ()):
        assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]
    for other, how in one.get("depends_on", {}).items():
        assert other in SERVICES
        assert how["condition"] == "service_completed_successfully" or "healthcheck" in SERVICES[other]
    for volume in one.get("volumes", ()):
        source = volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[0]
        if source.startswith("../"):
            assert (INFRA / "compose" / source).is_file(), source
        elif not source.startswith("$"):
            assert source in COMPOSE["volumes"]


@every_service
def test_ports_are_on_loopback_alone_and_no_password_is_in_the_environment(name):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))
    for variable, value in SERVICES[name].get("environment", {}).items():
        hides = any(word in variable for word in ("PASSWORD", "SECRET", "TOKEN", "ACCESS_KEY"))
        assert not hides or value.startswith("/run/secrets/") and value.rsplit("/", 1)[1] in COMPOSE["secrets"]


@every_service
def test_a_service_that_waits_for_another_asks_it_at_the_port_it_listens_on(name):
    text = json.dumps(SERVICES[name])
    for host, port in re.findall(r"\b(head|mlflow|s3|db)[:/](\d{4,5})\b", text):
        listens = {"head": "--port=6379", "mlflow": "--port 5000", "s3": "127.0.0.1:9000"}[host]
        assert port in listens and listens in json.dumps(SERVICES[host])


def test_the_mlflow_server_asks_for_a_password_that_ray_has_and_knows_its_own_name():
    command, ray = SERVICES["mlflow"]["command"], SERVICES["worker"]
    assert "--app-name basic-auth" in command
    host = ray["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert host in command.split("--allowed-hosts ")[1]
    assert "MLFLOW_TRACKING_PASSWORD" in ray["secrets"]
    given = [s for s in SERVICES["mlflow"]["secrets"] if isinstance(s, dict)]
    assert given == [{"source": "MLFLOW_TRACKING_PASSWORD", "target": "MLFLOW_AUTH_ADMIN_PASSWORD"}]
    auth = (INFRA / "image" / "mlflow-auth.ini").read_text()
    assert f"admin_username = {ray['environment']['MLFLOW_TRACKING_USERNAME']}\n" in auth


@pytest.mark.parametrize("name", ["head", "worker"])
def test_ray_asks_for_a_token_and_has_time_for_a_checkpoint(name):
    one = SERVICES[name]
    assert one["environment"]["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" in one["secrets"]
    assert int(one["stop_grace_period"].removesuffix("s")) >= 60


def test_images_are_those_of_this_version_and_are_built_from_targets_that_exist():
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (INFRA / "image" / "Containerfile").read_text(), re.MULTILINE))
    built = [one for file in (COMPOSE, GPU) for one in file["services"].values() if "build" in one]
    assert {one["build"]["target"] for one in built} == {"cpu", "cuda", "s3"} <= targets
    for one in built:
        assert one["image"] == f"stillhouse:{PROJECT['version']}-{one['build']['target']}"
        assert (INFRA / "compose" / one["build"]["context"] / one["build"]["dockerfile"]).is_file()


def test_secrets_are_random_kept_and_for_their_owner_alone(tmp_path):
    script = tmp_path / "compose" / "secrets.sh"
    script.parent.mkdir()
    script.write_text((INFRA / "compose" / "secrets.sh").read_text())
    subprocess.run(["sh", script], check=True, capture_output=True)
    folder = script.parent / "secrets"
    first = {file.name: file.read_text() for file in folder.iterdir()}
    assert set(first) == set(COMPOSE["secrets"]) == {Path(one["file"]).name for one in COMPOSE["secrets"].values()}
    assert len(set(first.values())) == len(first) and all(re.fullmatch("[0-9a-f]{48}", text) for text in first.values())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    subprocess.run(["sh", script], check=True, capture_output=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == first
    ignored = (INFRA.parent / ".gitignore").read_text().splitlines()
    assert "infra/compose/secrets/" in ignored


def test_secrets_become_variables_and_the_command_takes_the_place_of_the_shell(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "PGPASSWORD").write_text("a 'b' $c")
    (tmp_path / "run" / "kubernetes.io").mkdir()
    script = tmp_path / "with-secrets"
    script.write_text((INFRA / "image" / "with-secrets").read_text().replace("/run/secrets", str(tmp_path / "run")))
    code = 'printf "%s|%s" "$PGPASSWORD" $$'
    process = subprocess.Popen(
        ["sh", script, "sh", "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.communicate()[0] == f"a 'b' $c|{process.pid}"
