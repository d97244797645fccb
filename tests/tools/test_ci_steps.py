"""The stages run in a step without secrets."""

from __future__ import annotations

from ci_steps import SECRETS
from tests.support import fake_forge
from tests.support.ci_world import World, list_stages, run_script, run_step
from tests.support.repository import Repository
from tests.support.tiny_pipeline import DVC_PASSWORD


def test_stages_see_no_secret(world: World) -> None:
    """The stage `evaluate` fails if its own or a parent's environment or a file has one, and it would find one."""
    config = world.colleague.read(".dvc/config")
    config += f"['remote \"other\"']\n    url = ssh://host/path\n    password = {DVC_PASSWORD}\n"
    (world.colleague.root / ".dvc/config").write_text("")
    world.colleague.replace("params.yaml", "brightness: 100", "brightness: 90")
    before, data = world.tip(), world.push()
    with fake_forge.serving(fake_forge.GITHUB) as server:
        ci = world.clone(data, **world.github(server, {"before": before}), DVC_CONFIG_LOCAL=config)
        result = run_script(ci, "retrain.py")
        assert (result.code, list_stages(result)) == (0, ["evaluate"]), result.output
    refused = run_step(ci, "retrain.py", "run")
    assert refused.code == 1
    assert "GITHUB_TOKEN, DVC_CONFIG_LOCAL" in refused.output
    assert run_step(ci, "retrain.py").code == 2, "in CI the steps are processes of their own"

    probe = "env -u GITHUB_TOKEN -u DVC_CONFIG_LOCAL python stages/probe.py; true"
    assert "/environ" in ci.run("sh", "-c", probe)
    without = Repository(ci.root, {name: text for name, text in ci.environment.items() if name not in SECRETS})
    assert without.run("sh", "-c", probe).strip() == "[]"
    (ci.root / ".dvc/config.local").write_text(config)
    assert without.run("sh", "-c", probe).strip() == "['.dvc/config.local']"
