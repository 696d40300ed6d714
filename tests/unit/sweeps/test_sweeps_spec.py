"""What a sweep file may say, the order of its grid, and the commands that come out."""

import json
from datetime import date
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.spec import Point, load_sweep

COMMAND = ["${env}", "${program}", "fit", "--config", "${args_json_file}"]
GRID = {
    "program": "gan-lightning",
    "method": "grid",
    "parameters": {"b.z": {"values": [0, 1]}, "a": {"value": None}, "b.y": {"min": 3, "max": 5}},
    "command": COMMAND,
}


@pytest.fixture
def sweep_file(tmp_path):
    """Return a function that writes a sweep file, changed as told, and gives its path."""

    def write(**changes):
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in (GRID | changes).items() if v is not ...}, sort_keys=False))
        return path

    return write


def test_a_grid_has_names_in_alphabetical_order_and_the_last_one_changes_fastest(sweep_file):
    points = load_sweep(sweep_file()).grid()
    assert [tuple(point.parameters.items()) for point in points] == [
        (("a", None), ("b.y", y), ("b.z", z)) for y in (3, 4, 5) for z in (0, 1)
    ]
    assert [point.index for point in points] == list(range(6))


def test_the_grid_is_that_of_wandbs_own_engine(sweep_file):
    engine = pytest.importorskip("sweeps", reason="needs W&B's package `sweeps`")
    sweep = load_sweep(sweep_file())
    config = {"method": "grid", "parameters": {name: dict(spec) for name, spec in sweep.parameters.items()}}
    theirs = []
    while (run := engine.next_run(config, theirs)) is not None:
        theirs.append(run)
    ours = [{name: {"value": value} for name, value in point.parameters.items()} for point in sweep.grid()]
    assert [run.config for run in theirs] == ours


def test_nested_parameters_stand_under_dotted_keys(sweep_file):
    nested = {"model": {"parameters": {"init_args": {"parameters": {"shares_removed": {"values": [0, 4]}}}}}}
    points = load_sweep(sweep_file(parameters=nested)).grid()
    assert [point.parameters for point in points] == [{"model.init_args.shares_removed": n} for n in (0, 4)]


def test_a_trials_id_depends_on_its_parameters_and_on_nothing_else():
    point = Point(0, {"a": 1, "b": [0.5, None]})
    assert Point(7, {"b": [0.5, None], "a": 1}).id == point.id
    others = [
        {"a": 1, "b": [0.5, "None"]},
        {"a": True, "b": [0.5, None]},
        {"a": 1, "b": [0.5]},
        {"a": "1", "b": [0.5, None]},
    ]
    assert len({point.id, *(Point(0, other).id for other in others)}) == 5


def test_run_cap_ends_a_grid_early(sweep_file):
    assert len(load_sweep(sweep_file(run_cap=4)).grid()) == 4


def test_the_label_names_classes_and_numbers_in_short():
    model = {"class_path": "gan_lightning.papers.LatentRegressor", "init_args": {"joint_weight": 0.25}}
    point = Point(0, {"model": model, "model.init_args.generator_lr": 0.000123456, "seed_everything": 2})
    assert point.label == "model=LatentRegressor/joint_weight=0.25 generator_lr=0.0001235 seed_everything=2"


def test_the_command_hands_values_on_with_their_types(sweep_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", "/data")
    file = tmp_path / "point.json"
    point = Point(0, {"a": None, "b": [1, 2], "c": True, "d": 1e-5})
    command = load_sweep(sweep_file(command=[*COMMAND[:3], "--data.root=${envvar:WHERE}", *COMMAND[3:]]))
    words = command.trial_command(point, file, ["--more=1"])
    assert words[1:] == ["-m", "gan_lightning", "fit", "--data.root=/data", "--config", str(file), "--more=1"]
    words = load_sweep(sweep_file(command=["${program}", "fit", "${args}"])).trial_command(point, file)
    assert words[4:] == ["--a=null", "--b=[1, 2]", "--c=true", "--d=1e-05"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methd": "grid"}, "unknown key 'methd'"),
        ({"controller": {"type": "local"}}, "'controller' needs W&B's server"),
        ({"program": "train.py"}, "program must be 'gan-lightning', got 'train.py'"),
        ({"method": "gridd"}, "method must be one of grid, random, bayes, got 'gridd'"),
        ({"method": ...}, "method must be one of grid, random, bayes, got None"),
        ({"method": "random"}, "run_cap must say after how many trials a random search ends"),
        ({"run_cap": 0}, "run_cap must be at least 1, got 0"),
        ({"method": "bayes", "run_cap": 3}, "metric must have the name of what to look at, got None"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1}}, "metric must have the name"),
        ({"parameters": {}}, "parameters must name at least one parameter"),
        ({"parameters": {"a": 3}}, "a must have a value, values or a distribution, got 3"),
        ({"parameters": {"a": {"value": 3, "vallues": [3]}}}, "unknown key 'vallues' of a"),
        ({"parameters": {"a": {"values": []}}}, "the values of a must be a list of at least one"),
        ({"parameters": {"a": {"values": [1, 2, 1]}}}, "the values of a must differ"),
        ({"parameters": {"a": {"values": [1, 1.0]}}}, "the values of a must differ, got 1 and 1.0"),
        ({"parameters": {"a": {"values": ["1e-4", 3, 0.0001]}}}, "got '1e-4' and 0.0001: equal trials are one trial"),
        ({"parameters": {"a": {"values": [{"b": 2}, {"b": 2.0}]}}}, "the values of a must differ"),
        ({"parameters": {"a": {"values": [date(2024, 1, 1)]}}}, "a must have values that JSON has"),
        ({"name": "../../x"}, "name must be one that a folder can have, got '../../x'"),
        ({"name": ".."}, "name must be one that a folder can have"),
        ({"name": {"a": 1}}, "name must be a text, got {'a': 1}"),
        ({"project": ["a"]}, "project must be a text, got ['a']"),
        ({"metric": {"name": "x", "goal": "maximise"}}, "goal must be minimize or maximize, got 'maximise'"),
        ({"parameters": {"a": {"min": 0.0, "max": 1.0}}}, "a must have a value, values, or whole numbers"),
        ({"parameters": {"a": {"values": [1], "probabilities": [1.0]}}}, "a must have a value, values, or whole"),
        ({"command": ...}, "command must be a list"),
        ({"command": ["${env}", "${program}", "--config", "${args_json_file}"]}, "${env}, ${program} and fit"),
        ({"command": ["${env}", "${interpreter}", "${program}", "fit", "${args}"]}, "got ${interpreter}"),
        ({"command": [*COMMAND[:3], "--config=${args_json_file}"]}, "a macro must be an item of its own"),
        ({"command": COMMAND[:3]}, "neither, so that all trials would be the same"),
        ({"command": [*COMMAND, "${args}"]}, "hand the parameters on, once"),
        ({"command": [*COMMAND[:3], "${args_json_file}"]}, "${args_json_file} must stand after --config"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_name(sweep_file, changes, message):
    with pytest.raises(SettingError) as refused:
        load_sweep(sweep_file(**changes))
    assert message in str(refused.value)


def test_files_that_are_no_sweeps_are_refused(tmp_path):
    with pytest.raises(SettingError, match="No such file"):
        load_sweep(tmp_path / "none.yaml")
    for content, message in (("a: [", "must be a YAML file"), ("- 3", "must be a mapping")):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(SettingError, match=message):
            load_sweep(tmp_path / "bad.yaml")


def test_an_unset_variable_is_an_error_and_not_its_own_name(sweep_file, tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    sweep = load_sweep(sweep_file(command=[*COMMAND[:3], "--data.root=${envvar:NOT_SET}", *COMMAND[3:]]))
    with pytest.raises(SettingError, match="environment variable NOT_SET"):
        sweep.trial_command(Point(0, {}), tmp_path / "point.json")


def agents_command(command: list[str], parameters: dict, folder: Path, monkeypatch) -> list[str]:
    """Return what W&B's own agent would start for a run with these parameters."""
    from wandb import wandb_agent

    started = []
    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda **process: started.append(process) or Mock())
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # so that what the agent sets is taken back
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_DIR", str(folder))
    agent = object.__new__(wandb_agent.Agent)
    agent._in_jupyter = agent._function = agent._forward_signals = None
    agent._sweep_command, agent._run_processes = list(command), {}
    args = {name: {"value": value} for name, value in parameters.items()}
    agent._command_run({"run_id": "r1", "program": "gan-lightning", "args": args})
    return started[0]["command"]


def test_trials_get_what_wandbs_agent_would_give_them(sweep_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", "/data")
    parameters = {
        "a": 3,
        "b": "text",
        "c": 0.5,
        "d": True,
        "e": None,
        "f": {"class_path": "X", "init_args": {"y": [1]}},
    }
    file, command = tmp_path / "point.json", [*COMMAND[:3], "--data.root=${envvar:WHERE}", *COMMAND[3:]]
    file.write_text(json.dumps(parameters))
    theirs = agents_command(command, parameters, tmp_path, monkeypatch)
    ours = load_sweep(sweep_file(command=command)).trial_command(Point(0, parameters), file)
    assert theirs[:2] == ["/usr/bin/env", "gan-lightning"]
    assert (theirs[2:-1], ours[3:-1]) == (["fit", "--data.root=/data", "--config"],) * 2
    assert json.loads(Path(theirs[-1]).read_text()) == json.loads(Path(ours[-1]).read_text())


def test_parameters_as_arguments_are_those_of_wandbs_agent_but_for_null(sweep_file, tmp_path, monkeypatch):
    parameters = {"a": 3, "b": "text", "c": 1e-5, "d": True, "e": None}
    command = ["${env}", "${program}", "fit", "${args}"]
    theirs = agents_command(command, parameters, tmp_path, monkeypatch)[3:]
    ours = load_sweep(sweep_file(command=command)).trial_command(Point(0, parameters), tmp_path / "unused")[4:]

    def read(words: list[str]) -> list[object]:
        return [yaml.safe_load(word.partition("=")[2].replace("True", "true")) for word in words]

    assert [word.partition("=")[0] for word in ours] == [word.partition("=")[0] for word in theirs]
    assert read(ours)[:4] == read(theirs)[:4]
    assert (read(ours)[4], read(theirs)[4]) == (None, "None")


def test_a_configuration_that_is_missing_is_named(sweep_file):
    sweep = load_sweep(sweep_file(command=[*COMMAND[:3], "--config=nowhere.yaml", *COMMAND[3:]]))
    with pytest.raises(SettingError, match=r"configurations that exist, got 'nowhere\.yaml'"):
        sweep.fingerprint()


def test_a_configuration_of_a_sweep_may_be_a_shipped_one_by_its_name(sweep_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = Path(__file__).parents[3] / "configs/mgan/base.yaml"

    def fingerprint(*words: str) -> dict:
        return load_sweep(sweep_file(command=[*COMMAND[:3], *words, *COMMAND[3:]])).fingerprint()

    by_path = fingerprint(f"--config={shipped}")["configs"][str(shipped)]
    assert fingerprint("--config=mgan/base")["configs"] == {"mgan/base": by_path}
    assert fingerprint("--config", "configs/mgan/base.yaml")["configs"] == {"configs/mgan/base.yaml": by_path}
    (tmp_path / "mgan").mkdir()
    (tmp_path / "mgan/base").write_text("model: GAN")
    assert fingerprint("--config=mgan/base")["configs"] != {"mgan/base": by_path}
    with pytest.raises(SettingError, match=r"got 'mgan/bas' in .* sweep is started\. Shipped with .* mgan/base\. "):
        fingerprint("--config=mgan/bas")


def test_values_that_only_look_alike_are_different_trials(sweep_file):
    for values in ([True, 1], [None, "None"], ["a", "A"], [0, False], [[1], 1]):
        assert len(load_sweep(sweep_file(parameters={"a": {"values": values}})).grid()) == 2


def test_ids_of_trials_stay_what_they_were():
    """Of folders that exist; the first is of `sweeps/mgan/shared_layers_digits.yaml`."""
    assert Point(0, {"model.init_args.shares_removed": 2, "seed_everything": 2}).id == "095219a507"
    assert Point(0, {"a": "1e-4", "b": 0.0001, "c": None}).id == "d78b5edd48"


def test_a_variable_of_the_environment_is_part_of_what_trials_share(sweep_file, tmp_path, monkeypatch):
    config = tmp_path / "config.yaml"
    config.write_text("a: 1")
    words = ["--trainer.max_epochs=${envvar:EPOCHS}", "--config=${envvar:CONFIG}"]
    sweep = load_sweep(sweep_file(command=[*COMMAND[:3], *words, *COMMAND[3:]]))
    monkeypatch.setenv("CONFIG", str(config))
    prints = []
    for epochs in ("1", "20"):
        monkeypatch.setenv("EPOCHS", epochs)
        prints.append(sweep.fingerprint())
    assert prints[0] != prints[1]
    assert prints[0]["configs"] == prints[1]["configs"] != {}
    assert str(config) in prints[0]["configs"]


def test_the_record_of_a_sweep_states_the_goal_also_if_the_file_does_not(sweep_file):
    for metric, noted in (({"name": "x"}, {"name": "x", "goal": "minimize"}), (None, {})):
        assert load_sweep(sweep_file(metric=metric)).fingerprint()["metric"] == noted


SEARCH = {"method": "bayes", "run_cap": 3, "metric": {"name": "x", "goal": "maximize"}}


def test_the_method_of_wandbs_scheduler_is_understood(sweep_file):
    custom = SEARCH | {"method": "custom", "scheduler": {"engine": "optuna"}}
    assert load_sweep(sweep_file(**custom)).method == "bayes"
    assert load_sweep(sweep_file(scheduler={"engine": "wandb"})).method == "grid"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": {"engine": "ax"}}, "scheduler.engine must be optuna or wandb, got 'ax'"),
        ({"scheduler": {"engine": "optuna"}}, "method must be one of custom with the scheduler's engine, got 'bayes'"),
        ({"method": "custom", "scheduler": {"engine": "wandb"}}, "method must be one of grid, random, bayes with"),
        ({"method": "custom"}, "method must be one of grid, random, bayes, got 'custom'"),
        (
            {"method": "custom", "scheduler": {"engine": "optuna", "source": "a.py", "optimizer": "f"}},
            "scheduler.source needs W&B's scheduler",
        ),
        (
            {"method": "custom", "scheduler": {"engine": "optuna"}, "early_terminate": {"type": "hyperband"}},
            "early_terminate must not stand beside a scheduler",
        ),
        ({"metric": {"name": "x", "goals": "maximize"}}, "got 'goals'. Did you mean goal?"),
        ({"metric": {"name": "x", "impute": "best"}}, "metric.impute has no counterpart here"),
        ({"metric": {"name": "x", "target": "0.9"}}, "target must be a finite number, got '0.9'"),
        ({"methd": "bayes"}, "Did you mean method?"),
        ({"parameters": {"a": {"min": 0, "max": 1, "distribution": "unifrom"}}}, "Did you mean uniform?"),
        ({"parameters": {"a": {"mu": 0, "sigma": 1}}}, "distribution of a must be one of constant"),
        ({"parameters": {"a": {"min": "1e-4", "max": 1.0}}}, "write 0.0001 (uniform), got '1e-4'"),
        ({"parameters": {"a": {"min": 1, "max": 1.0}}}, "max of a must be above min, 1 (uniform), got 1.0"),
        ({"parameters": {"a": {"min": 3, "max": 1}}}, "max of a must be above min, 3 (int_uniform), got 1"),
        (
            {"parameters": {"a": {"min": 0, "max": 1, "distribution": "log_uniform_values"}}},
            "min of a must be above 0, for it has a logarithm",
        ),
        ({"parameters": {"a": {"min": 0, "distribution": "uniform"}}}, "a must have max with the distribution uniform"),
        ({"parameters": {"a": {"sigma": 0, "distribution": "normal"}}}, "sigma of a must be above 0"),
        ({"parameters": {"a": {"q": 1, "distribution": "beta"}}}, "a must not have q with the distribution beta"),
        ({"parameters": {"a": {"values": [1, 2], "probabilities": [1.0]}}}, "probabilities of a must be 2 numbers"),
        ({"parameters": {"a": {"values": [1, 2], "probabilities": [0.5, 0.4]}}}, "must add up to 1, not 0.9"),
        ({"early_terminate": {"type": "hyperbnd"}}, "early_terminate.type must be hyperband, got 'hyperbnd'"),
        ({"early_terminate": {"type": "hyperband"}}, "must have min_iter, or max_iter and s, got neither"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 0}}, "min_iter must be a whole number of at least 1"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "eta must be above 1, got 1"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "etta": 2}}, "got 'etta'. Did you mean eta?"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9}}, "early_terminate.s must be a whole number"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 3}}, "max_iter must be at least eta"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": 1}}, "strict must be true or false"),
    ],
)
def test_what_a_search_cannot_be_is_refused_with_its_name(sweep_file, changes, message):
    with pytest.raises(SettingError) as refused:
        load_sweep(sweep_file(**(SEARCH | changes)))
    assert message in str(refused.value)
    assert "sweep.yaml" in str(refused.value)
