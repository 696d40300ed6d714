"""The benchmarks run."""

import json
import re
import runpy
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from torch.autograd import DeviceType
from torch.testing import assert_close

from benchmarks.results.records import read_records

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_time_of_a_split_step_is_printed_beside_a_direct_ones(monkeypatch, capsys):
    sizes = ["--base_width=1", "--batch_size=2", "--rounds=2", "--batches=1"]
    monkeypatch.setattr(sys, "argv", ["subproblem_step.py", *sizes])
    runpy.run_path(str(BENCHMARKS / "subproblem_step.py"), run_name="__main__")
    *rounds, last = capsys.readouterr().out.splitlines()
    ratios = [float(line.rsplit(" ", 1)[1]) for line in rounds if line.startswith("round")]
    assert len(ratios) == 2
    found = re.fullmatch(r"ratio split / direct: median ([\d.]+), from ([\d.]+) to ([\d.]+)", last)
    assert found
    assert [float(value) for value in found.groups()[1:]] == [min(ratios), max(ratios)]


@pytest.mark.slow
def test_the_alarm_of_the_density_ratio_is_judged_run_by_run(monkeypatch, capsys, tmp_path):
    sizes = ["--seeds", "0", "2", "--steps", "60", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["density_ratio_alarm.py", *sizes])
    runpy.run_path(str(BENCHMARKS / "density_ratio_alarm.py"), run_name="__main__")
    results = json.loads((tmp_path / "results.json").read_text())
    settings, rules = len(results["settings"]), len(results["rules"])
    assert len(results["outcomes"]) == 2 * settings * rules
    assert len(list(tmp_path.glob("*.png"))) == settings
    assert len(re.findall(r"^\| \w.*\| 2 \|", capsys.readouterr().out, flags=re.MULTILINE)) == settings * rules


def test_a_run_is_that_of_its_seed_whatever_runs_beside_it():
    script = runpy.run_path(str(BENCHMARKS / "density_ratio_alarm.py"))
    setting = script["Setting"](generators=2, class_weight=0.1, steps=20)
    (_, beside), (alone,) = (script["trained"](setting, seeds, 16) for seeds in ([3, 4], [4]))
    assert len(alone) == 3
    for one, other in zip(beside, alone, strict=True):
        assert one.ratio.metrics() == pytest.approx(other.ratio.metrics(), rel=1e-3)
        assert one.near_modes == pytest.approx(other.near_modes, abs=2e-3)


def test_a_run_is_judged_by_when_its_diversity_fell():
    script = runpy.run_path(str(BENCHMARKS / "density_ratio_alarm.py"))
    setting, outcome = script["Setting"], script["outcome"]
    rule = script["AlarmRule"](patience=1, warm_up=2, watch="spread")

    def judged(modes: str, high: tuple[int, ...], **settings) -> tuple:
        def ratio(i: int):
            values = torch.linspace(-1, 1, 9) * (9 if i in high else 1)
            return script["ratio_statistics"](values)

        checks = [script["Check"](10 * i, ratio(i), int(count), 1.0) for i, count in enumerate(modes)]
        found = outcome(setting(steps=100, **settings), checks, rule)
        return tuple(found[name] for name in ("verdict", "fall", "first_alarm", "lead"))

    fell = "0288881112"  # covered at check 4, fallen at 6
    rising = {"rise": 15.0, "rise_from": 0.3}
    assert judged(fell, (6, 7), **rising) == ("alarm", 60, 60, 0)
    assert judged(fell, (5, 7), **rising) == ("alarm", 60, 50, 10)
    assert judged(fell, (5,), rise=15.0, rise_from=0.6) == ("false alarm", 60, 50, None)  # nothing had risen yet
    assert judged(fell, (), **rising) == ("missed", 60, None, None)
    assert judged("0888111111", (9,), **rising) == ("alarm", 40, 90, -50)
    assert judged("0888818888", (5,), **rising) == ("never fell, alarm", None, 50, None)  # one check is no fall
    assert judged("0888888888", (), healthy=True) == ("silent", None, None, None)
    assert judged("0888888888", (8,), healthy=True) == ("false alarm", None, 80, None)


def test_the_toy_and_the_inductive_bias_are_recorded_over_seeds(monkeypatch, capsys, tmp_path):
    script = runpy.run_path(str(BENCHMARKS / "toy_and_inductive_bias.py"))
    script["GENERATORS"].pop("dcgan")
    monkeypatch.setattr(sys, "argv", ["", "--seeds=2", "--steps=5", "--widest=4", f"--into={tmp_path}"])
    script["main"]()
    records, printed = read_records(tmp_path), capsys.readouterr().out
    assert len(records["toy"].runs) == 8
    assert all(0.5 < runs.find("toy/mean_error").by_seed["1"] < 1 for runs in records["toy"].runs)
    first = records["toy"].of({"discriminator": "linear", "D's rate": 0.1, "solver": "gradient"})
    assert first.find("toy/variance_across").by_seed["0"] == pytest.approx(1.0, abs=0.02)
    bias = records["inductive_bias"]
    assert [runs.settings for runs in bias.runs] == [
        {"generator": "mlp", "width": 4, "weights": 50 * 4 + 4 * 4 + 4 * 64},
        {"generator": "plain mlp", "width": 4, "weights": 51 * 4 + 5 * 4 + 5 * 64},
    ]
    trace = bias.of({"generator": "plain mlp"}).find("subproblem/trace").by_seed
    mean, half = (trace["0"] + trace["1"]) / 2, abs(trace["0"] - trace["1"]) / 2
    assert f"| plain mlp | 4 | 544 | 2 | {mean:.2f} ± {12.706 * half:.2f} |" in printed


def test_the_distances_of_k_are_those_from_the_identity_and_from_the_nearest_multiple():
    script, k = runpy.run_path(str(BENCHMARKS / "toy_and_inductive_bias.py")), torch.diag(torch.tensor([1.0, 2.0, 6.0]))
    spectrum = script["Spectrum"](9.0, 81 / 41, 3)
    found = script["bias_figures"](spectrum)
    assert found["distance_from_identity"] == pytest.approx((k - torch.eye(3)).norm().item() / 3**0.5)
    assert found["distance_from_multiples"] == pytest.approx((k - 3 * torch.eye(3)).norm().item() / k.norm().item())
    assert (found["trace"], found["effective_rank"]) == pytest.approx((3.0, 27 / 41))


@pytest.fixture
def command(monkeypatch):
    """`python -m benchmarks`, from the root of the repository."""
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent))
    return import_module("benchmarks.__main__")


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Watch(Callback):
    """Draws the same in a step, whatever came before it, and keeps the model."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(batch_idx)

    def on_train_end(self, trainer, pl_module):
        self.model = pl_module


def trained_by_both(size, program) -> tuple:
    """Return the framework's model and a program that starts at its weights, after two steps each."""
    training, cpu, watch = import_module("benchmarks.training"), torch.device("cpu"), Watch()
    training.fit(size, training.Settings("64-true"), cpu, watch, max_steps=2)
    torch.set_default_dtype(torch.float64)  # Lightning sets it back
    other = program(size.model(), cpu)
    for number, (real, _) in zip(range(2), size.loader(cpu), strict=False):
        torch.manual_seed(number)
        other.step(real)
    return watch.model, other


def assert_same_weights(ours, other) -> None:
    for weight, own in zip(ours.parameters(), other.parameters(), strict=True):
        assert_close(own.view_as(weight), weight, rtol=1e-7, atol=1e-9)


def test_the_plain_mgan_computes_what_ours_does(command, float64):
    plain = import_module("benchmarks.plain")
    model, other = trained_by_both(command.SMALL.mgan, plain.PlainMGAN)
    assert_same_weights(model.generator_trunk, other.trunk)
    assert_same_weights(model.discriminator, other.features)
    assert_same_weights(model.discriminator_head, other.real_or_fake)
    assert_same_weights(model.classifier_head, other.which)
    heads = model.generator_heads
    norms = zip(heads.norm.weight.chunk(heads.copies), heads.norm.bias.chunk(heads.copies), strict=True)
    for weight, (gain, bias), (layer, norm, _) in zip(heads.weight, norms, other.first_layers, strict=True):
        assert_close(layer.weight.view_as(weight), weight, rtol=1e-7, atol=1e-9)
        assert_close([norm.weight, norm.bias], [gain, bias], rtol=1e-7, atol=1e-9)


def test_pytorchs_dcgan_computes_what_ours_does(command, float64):
    plain = import_module("benchmarks.plain")
    model, other = trained_by_both(command.SMALL.dcgan, plain.PlainDCGAN)
    assert_same_weights(model.generator, other.generator)
    assert_same_weights(model.discriminator, other.discriminator)


def test_the_bare_dcgan_computes_what_ours_does(command, float64):
    plain = import_module("benchmarks.plain")
    model, other = trained_by_both(command.SMALL.dcgan, plain.BareDCGAN)
    assert_same_weights(model, other.model)


def test_the_plain_bigan_computes_what_ours_does(command, float64):
    plain = import_module("benchmarks.plain")
    model, other = trained_by_both(command.SMALL.bigan, plain.PlainBiGAN)
    assert_same_weights(model.generator, other.generator)
    assert_same_weights(model.encoder, other.encoder)
    rows, maps = model.discriminator.rows, model.discriminator.latent_maps
    assert_close(other.hidden1.weight, rows.hidden1[0].weight, rtol=1e-7, atol=1e-9)
    for name in ("hidden2", "output"):
        joined = torch.cat([rows.get_submodule(name)[0].weight, maps[name].weight], dim=1)
        assert_close(getattr(other, name).weight, joined, rtol=1e-7, atol=1e-9)


def test_the_bare_selfexgan_computes_what_ours_does(command, float64):
    plain = import_module("benchmarks.plain")
    model, other = trained_by_both(command.SMALL.selfexgan, plain.BareSelfExGAN)
    assert_same_weights(model, other.model)


def test_training_steps_are_timed_in_turn_with_the_plain_programs(command, capsys, tmp_path):
    rows, variants = ["--rows", "mgan", "dcgan"], ["--variants", "default", "recommended"]
    command.main(["--small", *rows, *variants, "--rounds=3", "--seconds=0.1", "--warm_up=1", f"--output={tmp_path}"])
    about = json.loads((tmp_path / "results.json").read_text())
    found = [(row["row"], row["ours"], row["other"]) for row in about["rows"]]
    steps = [(name, variant, "plain") for name in ("mgan", "dcgan") for variant in ("default", "recommended")]
    assert found == [*steps, ("dcgan", "default", "bare loop")]
    for row in about["rows"]:
        ours, other = row["all_seconds"]["ours"], row["all_seconds"]["other"]
        assert 2 <= len(ours) == len(other) == row["rounds"] <= 3
        ratios = sorted(b / a for a, b in zip(ours, other, strict=True))
        assert row["ratio"]["min"] == ratios[0]
        assert row["ratio"]["max"] == ratios[-1]
    printed = capsys.readouterr().out
    assert len(re.findall(r"^\| (mgan|dcgan) ", printed, flags=re.MULTILINE)) == 2 * len(found)


def test_the_longest_operations_of_a_step_are_written(command, tmp_path):
    command.main(["--small", "--rows", "dcgan", "--variants=default", "--profile", f"--output={tmp_path}"])
    assert "convolution_backward" in (tmp_path / "profile-dcgan-default-cpu.txt").read_text()
    (step,) = json.loads((tmp_path / "profiles.json").read_text())["steps"]
    assert step["processor_seconds"] > 0
    assert (step["gpu_seconds"], step["kernels"]) == (0, 0)


def test_waiting_is_no_work_of_a_profiled_step(command, monkeypatch):
    def event(key: str, cpu: float, gpu: float, count: int, kind=DeviceType.CPU, note=False):
        times = {"self_cpu_time_total": cpu, "self_device_time_total": gpu, "count": count}
        return SimpleNamespace(key=key, device_type=kind, is_user_annotation=note, **times)

    events = [
        event("cudaGraphLaunch", 200.0, 0.0, 1),
        event("cudaDeviceSynchronize", 1800.0, 0.0, 1),
        event("gemm", 0.0, 900.0, 30, DeviceType.CUDA),
        event("adam", 0.0, 100.0, 3, DeviceType.CUDA),
        event("a range", 0.0, 1000.0, 1, DeviceType.CUDA, note=True),
    ]
    profiled = import_module("benchmarks.profiling").Profiled(torch.device("cpu"))
    monkeypatch.setattr(profiled.profiler, "key_averages", lambda: events)
    assert profiled.totals() == {"processor_seconds": 2e-4, "gpu_seconds": 1e-3, "kernels": 33}


def test_evaluations_and_input_are_timed_in_turn(command, tmp_path):
    rows = ["transfer", "input", "nearest"]
    command.main(["--small", "--rows", *rows, "--rounds=2", "--seconds=0.1", f"--output={tmp_path}"])
    transfer, inputs, nearest = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["row"] for row in (transfer, inputs, nearest)] == rows
    assert transfer["accuracy"]["ours"] == transfer["accuracy"]["other"]
    assert transfer["largest_difference_of_an_epoch"] == 0
    assert nearest["same_neighbours"] == 1
    for variant in ("default", "recommended"):
        assert 0 < inputs[f"share_of_a_{variant}_fit_that_waits"] < 1


def test_a_whole_evaluation_is_timed_alone(command, tmp_path, capsys):
    command.main(["--small", "--rows", "evaluation", "--rounds=1", "--seconds=0.1", f"--output={tmp_path}"])
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    # Two extractors by two protocols, their controls twice and the stronger one, the pixels, and chance.
    assert row["figures"] >= 2 * 2 * 4 + 2 + 1
    assert row["all_seconds"]["ours"] == [row["our_seconds"]]
    assert "| evaluation | both protocols, controls | - | " in capsys.readouterr().out


def test_both_ways_of_a_transfer_evaluation_learn_the_same(command):
    evaluation = import_module("benchmarks.evaluation")
    transfer = evaluation.CachedTransfer(evaluation.TransferSize(4, 600, 200, 8), None, torch.device("cpu"))
    transfer.protocol = evaluation.PaperProbe(learning_rate=300.0, batch_size=32, epochs=8)
    transfer.cached(1)
    transfer.each_epoch(1)
    assert transfer.accuracies["cached"] == transfer.accuracies["each"]
    assert transfer.accuracies["each"][-1] > 0.25  # a guess is right for one in ten
    assert len(set(transfer.accuracies["each"])) > 2


def test_both_ways_of_input_give_the_same_images(command):
    evaluation = import_module("benchmarks.evaluation")
    data = evaluation.Synthetic((10, 1), 3, 32, image_size=32, batch_size=10)
    images, labels = next(evaluation.batches_of_ours(data, torch.device("cpu")))
    one_by_one = evaluation.ImagesOneByOne(data.store("train"), flip=False)
    order = import_module("gan_lightning.data.store").shuffled(10, 0, 0).tolist()
    assert_close(images, torch.stack([one_by_one[i][0] for i in order]))
    assert labels.tolist() == [one_by_one[i][1] for i in order]


def test_every_program_runs_and_uses_memory(command):
    growth, cpu = import_module("benchmarks.growth"), torch.device("cpu")
    training = import_module("benchmarks.training")
    for name in growth.programs(command.SMALL, cpu):
        if name.split(" ")[1] not in training.VARIANTS or name.endswith((" default", " recommended")):
            found = growth.measure(name, command.SMALL, cpu, units=0)
            assert found["seconds"] > 0
            assert found["bytes"] >= 0


@pytest.mark.slow
def test_what_a_program_takes_is_measured_in_a_process_of_its_own(command):
    growth, cpu = import_module("benchmarks.growth"), torch.device("cpu")
    few, many = (replace(command.SMALL, nearest=growth.NearestSize(80_000 * times, 20, 1024)) for times in (1, 2))
    found = [growth.in_a_process("nearest ours", sizes, cpu, 0) for sizes in (few, many)]
    assert found[0]["seconds"] > 0
    assert (
        found[1]["bytes"] - found[0]["bytes"] > 0.5 * 80_000 * 1024 * 4
    )  # the vectors; imports may have a peak of some MB


def test_growth_is_drawn(command, tmp_path):
    growth = import_module("benchmarks.growth")
    points = [
        {"axis": axis.name, "program": axis.program, "value": value, "seconds": value / 10, "bytes": value * 1e6}
        for axis in growth.AXES
        for value in axis.values
    ]
    growth.draw(points, tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(2**20)) > 10


def test_every_size_of_an_axis_makes_a_model(command):
    growth = import_module("benchmarks.growth")
    for axis in growth.AXES:
        for value in axis.values:
            if axis.program.startswith("mgan"):
                sizes = axis.sizes(growth.Sizes(), value)
                assert growth.Sizes.of(json.dumps(asdict(sizes))) == sizes
                with torch.device("meta"):
                    sizes.mgan.model()


def test_what_a_step_exchanges_and_computes_is_counted_and_its_times_follow_from_the_rates(capsys):
    script = runpy.run_path(str(BENCHMARKS / "scaling_on_paper.py"))
    script["main"](["--settings", "BiGAN, MNIST", "--latency", "0", "--gpus", "8", "--images", "1000000"])
    *_, counts, _, _, _, hours = capsys.readouterr().out.splitlines()
    cells, times = (line.strip("| ").split(" | ") for line in (counts, hours))
    # Rows of the MLPs: G 50-1024-1024-784, E 784-1024-1024-50, D 784-1024-1024-1 with z at the last two.
    generator, discriminator = 1024 * (50 + 1024 + 784), 1024 * (784 + 1024 + 1) + 50 * 1025
    weights = 2 * generator + discriminator
    assert cells[:3] == ["BiGAN, MNIST", f"{weights / 1e6:.1f}M", f"{4 * weights / 1e6:.1f}"]
    # Forwards and backwards: three products a weight but for the first layers, D's twice since it sees two kinds.
    most = 6 * 128 * (2 * generator + 2 * discriminator)
    assert 0.7 * most < float(cells[3].replace(",", "")) * 1e9 < 1.4 * most
    assert float(cells[7]) == pytest.approx(1e3 * 2 * 7 / 8 * 4 * weights / 450e9, abs=0.01)
    one, eight = (1e8 / 128 / n * (float(cells[5]) + (n > 1) * float(cells[7])) / 3.6e6 for n in (1, 8))
    assert float(times[2]) == pytest.approx(one, rel=0.1)
    assert float(times[4]) == pytest.approx(eight, rel=0.1)


@pytest.mark.slow
def test_ways_to_average_gradients_are_timed_in_turn(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "processes.py"), "--width=2", "--batch_size=20", "--rounds=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in done.stdout.splitlines() if " | " in line}
    exchanges = {way: int(row[1]) for way, row in rows.items() if row[1].isdigit()}
    assert exchanges.keys() == {"once", "search", "networks", "silent", "alone", "half"}
    assert (exchanges["once"], exchanges["half"], exchanges["silent"], exchanges["alone"]) == (2, 2, 0, 0)
    assert exchanges["search"] >= 3


def test_the_input_from_a_folder_of_images_is_timed(data_root, tmp_path, capsys):
    image_folders = import_module("benchmarks.image_folders")
    small = ["--image_size=8", "--crop_from=10", "--batch_size=5", "--workers", "0", "--images=10", "--rounds=2"]
    image_folders.main([str(data_root / "imagenet"), *small, "--list=80", f"--output={tmp_path}"])
    found = json.loads((tmp_path / "image_folders.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["image_folders.json"]
    assert found["listing"]["files"] == 80
    table = capsys.readouterr().out
    for program in ("the cache", "DataLoader, workers: 0", "one process", "Pillow"):
        assert f"| {program} | " in table


@pytest.mark.parametrize(("device", "units"), [("cpu", 1), ("cuda", 20)])
def test_a_turn_on_a_gpu_is_no_single_short_step_even_if_the_time_is_over(device, units):
    timing, progress = import_module("benchmarks.timing"), import_module("benchmarks.progress")
    comparison, asked = timing.Comparison("mgan", "default", "plain", "step"), []
    with progress.Progress("a row", 0.0) as shown, suppress(StopIteration):
        turns = timing.schedule(comparison, timing.Budget(seconds=0.0), shown, torch.device(device))
        _, count = next(turns)
        while True:
            asked.append(count)
            _, count = turns.send((0.01 * count, count))
    assert asked[-4:] == [units] * 4, "two rounds, whatever the time"
    assert len(comparison.our_seconds) == timing.LEAST_ROUNDS
