"""Every measurement, after a fit, under `test`, of a finished run and from Python: the same to the last digit."""

import jaxtyping
import torch
from every_measurement import Everything, one_strength, quick, stripes, timeless
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.cli.naming import KINDS
from gan_lightning.figures import final_figures, read_figures
from gan_lightning.measurements import Bench, Outcome
from gan_lightning.runs import Checkpoints, Measure, RunFolder, Trainer


class OwnAutoencoder(Everything, LightningModule):
    """Learns to reconstruct, so that weights and statistics of batch norm move."""

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.decode(self.encode(batch[0])), batch[0])


class Stripes(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        tensors = stripes()
        for name in ("name", "channels", "image_size", "label_kind", "num_classes", "evaluation_batches"):
            setattr(self, name, getattr(tensors, name))
        self.pairs = tensors._splits

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(*self.pairs["train"]), batch_size=8)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(*self.pairs["test"]), batch_size=8)


def trainer(*callbacks, **settings) -> Trainer:
    return Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=list(callbacks), **settings,
    )  # fmt: skip


def test_all_measurements_agree_to_the_last_digit_whenever_they_are_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which takes half of the time

    def every() -> Measure:
        return Measure(*quick(tmp_path / "judges"))

    def found(outcomes: dict[str, Outcome]) -> dict:
        return {name: timeless(outcome) for name, outcome in outcomes.items()}

    seed_everything(0)
    model, after_fit, saving = OwnAutoencoder(), every(), Checkpoints(save_last="link")
    with one_strength():
        trainer(after_fit, saving, RunFolder(str(tmp_path / "fit"))).fit(model, datamodule=Stripes())
        (run,) = (tmp_path / "fit").glob("*/*")
        last = str(run / "checkpoints/last.ckpt")
        under_test, of_the_run = every(), every()
        trainer(under_test).test(OwnAutoencoder(), Stripes(), ckpt_path=last, verbose=False)
        keeper = RunFolder()
        keeper.finished = run
        written = read_figures(run / "figures.json").figures
        trainer(of_the_run, keeper).measure(OwnAutoencoder(), Stripes(), ckpt_path=last)
        bench = Bench.of_model(model, Stripes(), epoch=2, batches=6)
        from_python = {each.name: bench.measure(each) for each in quick(tmp_path / "judges")}
    fitted = found(after_fit.outcomes)
    assert set(fitted) == {kind.name for kind in KINDS}
    assert found(under_test.outcomes) == fitted
    assert found(of_the_run.outcomes) == fitted
    assert found(from_python) == fitted
    # What is in the folder is what was found, and measuring it again adds nothing.
    of_names = {name: len(figures) for name, figures in fitted.items() if figures}
    again = read_figures(run / "figures.json").figures
    assert {name: sum(f.measurement == name for f in again) for name in of_names} == of_names
    assert {f.name: f.value for f in final_figures(again)} == {f.name: f.value for f in final_figures(written)}
    pictures = {path.name for path in (run / "pictures").iterdir()}
    assert {f"{name}.png" for name in ("samples", "reconstruction", "anatomy", "feeding", "embedding")} < pictures
    assert "Transfer on stripes" in capsys.readouterr().out
    assert_close(model.state_dict(), OwnAutoencoder.load_from_checkpoint(last).state_dict(), rtol=0, atol=0)
