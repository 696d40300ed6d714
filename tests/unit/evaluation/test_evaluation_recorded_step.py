"""A step that is made many times is recorded once; a stand-in replays it where there is no GPU."""

import pytest
import torch
from card_stand_in import Tape

from gan_lightning.evaluation.recorded_step import repeatable
from gan_lightning.system.cuda_graph import Recorder, recorder_for


def counting():
    """Return a step that adds the sum of its argument to a total, the total, and the calls of its Python."""
    total, calls = torch.zeros(()), []

    def step(rows):
        calls.append(len(rows))
        return total.add_(rows.sum())

    return step, total, calls


def test_a_recorded_step_is_the_step_without_its_python_and_recording_moves_nothing():
    step, total, calls = counting()
    tape = Tape()
    assert isinstance(tape, Recorder)
    again = repeatable(step, torch.zeros(3), [total], tape)
    assert total == 0
    made = len(calls)
    for argument in (torch.ones(3), torch.arange(3.0)):
        assert again(argument) is not None
    assert total == 6
    assert len(calls) == made
    assert (tape.recorded, tape.replayed) == (1, 2)
    again(torch.ones(2))  # of another shape
    assert total == 8
    assert calls[made:] == [2]


def test_without_a_recorder_a_step_is_made_as_it_is():
    step, *_ = counting()
    assert repeatable(step, torch.zeros(3), [], recorder_for(torch.device("cpu"))) is step


def test_a_step_that_cannot_be_recorded_is_made_as_it_is_and_the_reason_is_said(caplog):
    total = torch.zeros(())

    def step(rows):
        return total.add_(float(rows.sum()))

    assert repeatable(step, torch.ones(3), [total], Tape()) is step
    assert total == 0
    assert "A step could not be recorded as a graph, and is slower: aten._local_scalar_dense" in caplog.text


@pytest.mark.gpu
def test_a_gpu_replays_a_step():
    device = torch.device("cuda")
    total = torch.zeros((), device=device)
    again = repeatable(
        lambda rows: total.add_(rows.sum()), torch.zeros(3, device=device), [total], recorder_for(device)
    )
    assert total == 0
    for _ in range(5):
        again(torch.ones(3, device=device))
    again(torch.ones(2, device=device))
    assert total == 17
