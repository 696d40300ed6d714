from lightning.pytorch import seed_everything

from gan_lightning.system.seeds import own_or_run_seed, run_seed


def test_the_runs_seed_is_the_one_that_lightning_was_given_and_a_seed_of_ones_own_comes_first():
    assert (run_seed(), own_or_run_seed(None), own_or_run_seed(4)) == (None, 0, 4)
    seed_everything(3, verbose=False)
    assert (run_seed(), own_or_run_seed(None), own_or_run_seed(0)) == (3, 3, 0)
