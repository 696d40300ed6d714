"""Losses that are not finite, noticed without a wait."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from gan_lightning.errors import NonFiniteError
from gan_lightning.runs import finite_watch
from gan_lightning.runs.finite_watch import FiniteWatch, watching
from gan_lightning.system.private_names import writes_into

CPU = torch.device("cpu")
INF, NAN = float("inf"), float("nan")


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")


def watch(batches: int = 0, moving=()) -> FiniteWatch:
    return FiniteWatch([], CPU, batches, moving)


def test_the_first_loss_that_is_not_finite_is_named_with_its_batch_whatever_comes_later(trainer):
    found = watch(batches=7)
    for first, second in [(1.0, 2.0), (3.0, -INF), (NAN, 4.0), (5.0, 6.0)]:
        found.note({"train/d": torch.tensor(first)})
        found.note({"train/g": torch.tensor(0.0), "train/c": torch.tensor(second)})
        found.end_batch()
    with pytest.raises(NonFiniteError, match=r"^train/c became -inf after 8 batches, in epoch 0; training stops"):
        found.check(trainer)


def test_finite_losses_are_no_reason_to_stop_however_large(trainer):
    found = watch()
    found.note({"large": torch.tensor(3e38), "small": torch.tensor(-3e38)})
    found.check(trainer)
    assert found.found == 0


def test_a_loss_of_another_process_stops_this_one(trainer):
    found = watch()
    found.note({"loss": torch.tensor(1.0)})
    found.found.fill_(0.25)  # the mean over four processes
    found.mean_found()
    assert found.found == 1
    with pytest.raises(NonFiniteError, match=r"^A loss of another process is not finite after 0 batches"):
        found.check(trainer)


def test_what_a_batch_has_moved_is_kept_or_put_back_by_the_flag():
    statistic, counter = torch.zeros(2, 3), torch.tensor(4)
    found = watch(moving=[statistic, counter])
    for value, expected in ((1.0, (1.0, 5)), (0.5, (1.5, 6)), (NAN, (1.5, 6)), (0.5, (1.5, 6))):
        statistic += value
        counter += 1
        found.note({"loss": torch.tensor(value)})
        found.end_batch()
        torch.testing.assert_close(statistic, torch.full((2, 3), expected[0]))
        assert counter == expected[1]
    change = torch.tensor([1.0, NAN])
    assert found.unless_found(change).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_watched_optimizers_stand_still_after_it_moments_and_step_counts_included(kind, monkeypatch):
    monkeypatch.setattr(finite_watch, "watches", lambda device: True)
    layer = nn.Linear(3, 1)
    optimizer = kind(layer.parameters(), lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    found = watching([optimizer], CPU, 0)
    states = []
    for value in (1.0, 1.0, NAN, 1.0):
        loss = layer(torch.full((2, 3), value)).mean()
        found.note({"loss": loss})
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        moments = [v.clone() for state in optimizer.state.values() for v in state.values()]
        states.append([*(weight.detach().clone() for weight in layer.parameters()), *moments])
    assert not torch.equal(states[1][0], states[0][0])
    for state in states[2:]:
        assert all(torch.equal(one, other) for one, other in zip(state, states[1], strict=True))
    found.end([optimizer])
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert not hasattr(optimizer, "found_inf")


@pytest.mark.parametrize(
    ("make", "device"),
    [
        (lambda weights: torch.optim.RMSprop(weights), "cuda"),
        (lambda weights: torch.optim.Adam(weights, fused=False), "cuda"),
        (lambda weights: torch.optim.Adam(weights), "cpu"),
    ],
)
def test_there_is_no_watch_where_the_host_does_not_wait_or_an_optimizer_cannot_read_the_flag(make, device):
    optimizer = make([nn.Parameter(torch.zeros(1))])
    assert watching([optimizer], torch.device(device), 0) is None


def test_a_rate_is_a_number_outside_of_steps_and_is_written_once_it_has_changed():
    first, second = (torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=rate, fused=True) for rate in (0.1, 0.2))
    found = FiniteWatch([first, second], CPU, 0)
    with found.rates_on_device():
        read = [each.param_groups[0]["lr"] for each in (first, second)]
        assert [rate.item() for rate in read] == [0.1, 0.2]
    second.param_groups[0]["lr"] = 0.05
    before = [writes_into(rate) for rate in read]
    with found.rates_on_device():
        found.write_rates()
        assert all(each.param_groups[0]["lr"] is rate for each, rate in zip((first, second), read, strict=True))
        assert [rate.item() for rate in read] == [0.1, 0.05]
    assert [writes_into(rate) for rate in read] == [before[0], before[1] + 1]
    assert [each.param_groups[0]["lr"] for each in (first, second)] == [0.1, 0.05]
