"""What a sweep file may say, the order of its grid, and the commands that come out."""

import json

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
    from gan_lightning.sweeps.engine import wandb_engine

    engine = pytest.importorskip("sweeps", reason="needs the extra `sweeps`") and wandb_engine()
    sweep = load_sweep(sweep_file())
    theirs = []
    while (run := engine.next_run(sweep.engine_config, theirs)) is not None:
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
    model = {"class_path": "gan_lightning.models.LatentRegressor", "init_args": {"joint_weight": 0.25}}
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


def test_the_macros_are_those_of_wandbs_agent(sweep_file, tmp_path):
    """Where W&B's expansion is right, ours is the same; the words differ in how a value is written."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    point, file = Point(0, {"a": 3, "b": "text"}), tmp_path / "point.json"
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.parameters.items()}})
    assert theirs["args"] == ["--a=3", "--b=text"]
    assert json.loads(theirs["args_json"][0]) == point.parameters
    assert create_sweep_command(list(COMMAND)) == COMMAND
    ours = load_sweep(sweep_file(command=["${program}", "fit", "${args}"])).trial_command(point, file)[4:]
    assert ours == ["--a=3", '--b="text"']


def test_a_configuration_that_is_missing_is_named(sweep_file):
    sweep = load_sweep(sweep_file(command=[*COMMAND[:3], "--config=nowhere.yaml", *COMMAND[3:]]))
    with pytest.raises(SettingError, match=r"configurations that exist, got 'nowhere\.yaml'"):
        sweep.fingerprint()
