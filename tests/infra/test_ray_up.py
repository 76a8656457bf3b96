"""The file of `ray up` fits Ray's own schema, and its nodes ask for a token."""

import json
from pathlib import Path

import jsonschema
import ray
from support.infra import PROJECT, documents

(CLUSTER,) = documents("ray-up/aws.yaml")
STARTS = [" ".join(CLUSTER[f"{kind}_start_ray_commands"]) for kind in ("head", "worker")]


def test_it_fits_rays_schema():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(CLUSTER, schema)


def test_every_node_asks_for_the_token_that_is_copied_to_it():
    options = " ".join(CLUSTER["docker"]["run_options"])
    (path,) = CLUSTER["file_mounts"]
    assert "--env RAY_AUTH_MODE=token" in options and f"--env RAY_AUTH_TOKEN_PATH={path}" in options


def test_the_dashboard_is_not_public_and_no_secret_is_in_the_file():
    assert "--dashboard-host=127.0.0.1" in STARTS[0]
    assert all("secretsmanager" in start for start in STARTS)
    assert not any("AWS_SECRET_ACCESS_KEY" in str(value) for value in CLUSTER.values())
    for kind in CLUSTER["available_node_types"].values():
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


def test_workers_are_spot_machines_and_the_head_is_not():
    kinds = CLUSTER["available_node_types"]
    head = kinds.pop(CLUSTER["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    for kind in kinds.values():
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} and kind["min_workers"] == 0
        assert kind["max_workers"] <= CLUSTER["max_workers"]


def test_the_image_is_this_version():
    assert CLUSTER["docker"]["image"].endswith(f":{PROJECT['version']}-cuda")
