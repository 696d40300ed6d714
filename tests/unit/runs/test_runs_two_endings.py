"""Two threads note how a run ended: what explains the end is what stays."""

import json
import threading
import time

import pytest
from lightning.pytorch import Callback, Trainer

from gan_lightning.data import Digits
from gan_lightning.papers import MGAN
from gan_lightning.runs import RunFolder
from gan_lightning.runs import run_folder as module

ITS_OWN = "RuntimeError: Connection closed by peer"
EXPLAINED = "process 1 of 0 to 1 (pid 7) was ended by SIGKILL"


class EndsTwice(Callback):
    """Ends the run in two threads; the second begins while the first writes."""

    def __init__(self, folder: RunFolder, order: list[tuple[str, bool]]) -> None:
        self.folder, self.order = folder, order
        self.writing = threading.Event()

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        def end(error: str, anew: bool) -> None:
            self.folder.end(trainer, "failed", error, anew=anew)

        threads = [threading.Thread(target=end, args=each) for each in self.order]
        threads[0].start()
        assert self.writing.wait(60)
        threads[1].start()
        for thread in threads:
            thread.join()
        trainer.should_stop = True


@pytest.mark.parametrize("order", [[(ITS_OWN, False), (EXPLAINED, True)], [(EXPLAINED, True), (ITS_OWN, False)]])
def test_the_death_of_another_process_explains_an_error_whichever_is_noted_first(tmp_path, monkeypatch, order):
    folder = RunFolder(str(tmp_path))
    twice = EndsTwice(folder, order)
    write = module.write_json

    def slowly(path, content):
        content = json.loads(json.dumps(content))  # as it is now: the other thread may change it
        first = content["status"] == "failed" and not twice.writing.is_set()
        if first:
            twice.writing.set()
            time.sleep(0.2)
        write(path, content)

    monkeypatch.setattr(module, "write_json", slowly)
    model = MGAN(1, 32, base_width=2, feature_dim=4, generators=2, fake_batch_size=4)
    Trainer(
        max_epochs=1, limit_train_batches=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", callbacks=[folder, twice],
    ).fit(model, Digits(limit=20, batch_size=10))  # fmt: skip
    (path,) = tmp_path.glob("*/*/run.json")
    assert json.loads(path.read_text())["error"] == EXPLAINED
