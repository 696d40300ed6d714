"""What the first process alone computes may take longer than an exchange between the processes."""

import threading

import torch.distributed as dist

from gan_lightning.system import processes


def test_the_others_begin_the_exchange_when_the_first_process_is_done(monkeypatch):
    store, here, computing, exchanges = dist.HashStore(), threading.local(), threading.Event(), []
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "process_rank", lambda: here.rank)
    monkeypatch.setattr(processes, "default_store", lambda: store)
    monkeypatch.setattr(dist, "broadcast_object_list", lambda outcome: exchanges.append(here.rank))

    def process(rank):
        here.rank = rank
        for _ in range(2):
            processes.on_first_process(lambda: computing.wait(60))

    threads = [threading.Thread(target=process, args=(rank,), daemon=True) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    threads[1].join(0.1)
    assert exchanges == []
    computing.set()
    for thread in threads:
        thread.join(60)
    assert sorted(exchanges) == [0, 0, 1, 1]
