"""`metrics.csv` of a run, and of one that goes on with it."""

import csv
from pathlib import Path

import pytest

from gan_lightning.runs.metrics_file import MetricsFile, first_rows


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_new_column_leaves_the_old_file_whole_until_the_new_one_is(tmp_path, monkeypatch):
    metrics = MetricsFile(tmp_path)
    metrics.log_metrics({"loss": 0.1}, step=0)
    metrics.save()
    before = (tmp_path / "metrics.csv").read_text()
    metrics.log_metrics({"accuracy": 0.5}, step=1)

    def killed(*_):
        assert (tmp_path / "metrics.csv").read_text() == before
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", killed)
    with pytest.raises(KeyboardInterrupt):
        metrics.save()
    assert (tmp_path / "metrics.csv").read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_file_goes_on_with_the_first_rows_of_another_as_if_it_were_that(tmp_path):
    whole, ended, gone_on = (MetricsFile(tmp_path / name) for name in ("whole", "ended", "gone-on"))
    logged = [({"loss": 0.1}, 0), ({"loss": 1 / 3, "note": float("nan")}, 1), ({"loss": 2e-9}, 2), ({"end": 1.0}, 3)]
    for metrics, step in logged:
        whole.log_metrics(metrics, step=step)
    assert whole.written_rows() == 4
    for metrics, step in logged[:2]:
        ended.log_metrics(metrics, step=step)
    assert ended.written_rows() == 2
    ended.log_metrics({"later": 5.0}, step=2)
    ended.save()
    with (tmp_path / "ended/metrics.csv").open("a") as file:
        file.write("0.123,")  # a line that the kill cut short
    gone_on.begin_with(first_rows(tmp_path / "ended/metrics.csv", 2))
    for metrics, step in logged[2:]:
        gone_on.log_metrics(metrics, step=step)
    assert gone_on.written_rows() == 4
    texts = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "gone-on")]
    assert texts[0] == texts[1]
    assert len(rows(tmp_path / "gone-on")) == 4


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b'"', b"\0", b",,,,,\n", b"\r"])
@pytest.mark.parametrize("place", [0, 7, 20])
def test_of_a_damaged_file_the_rows_are_taken_that_can_be_read(tmp_path, damage, place):
    whole = b"step,loss\n0,0.1\n1,0.2\n2,0.3\n"
    (tmp_path / "metrics.csv").write_bytes(whole[:place] + damage + whole[place:])
    found = first_rows(tmp_path / "metrics.csv", 3)
    assert len(found) <= 3
    assert all(isinstance(name, str) for row in found for name in row)


def test_no_file_has_no_rows(tmp_path):
    assert first_rows(tmp_path / "metrics.csv", 3) == []
