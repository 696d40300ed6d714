"""A GPU's stand-in on the CPU: it records what is done to tensors, and counts what the processor would wait for."""

from collections import Counter

import torch
from torch import Tensor

from gan_lightning.system.private_names import DispatchMode
from gan_lightning.training.host_reads import waits


class Reads(DispatchMode):
    """Counts the operations that the processor would wait for, by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if waits(func, args, result):
            self.counts[func.overloadpacket.__name__] += 1
        return result


class Tape(DispatchMode):
    """Records the operations on tensors, and makes them again on the same memory: no Python, as a CUDA graph."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = []
        self.recorded = self.replayed = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if waits(func, args, result):
            raise RuntimeError(f"{func} cannot be recorded")
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def warm_up(self, step):
        return step()

    def record(self, step):
        self.recorded += 1
        with self:
            values = step()

        @torch.no_grad()
        def replay():
            self.replayed += 1
            for func, args, kwargs, result in self.operations:
                again = func(*args, **kwargs)
                pairs = zip(
                    *(each if isinstance(each, tuple | list) else [each] for each in (result, again)), strict=True
                )
                for before, now in pairs:
                    if isinstance(before, Tensor) and before.data_ptr() != now.data_ptr():
                        before.copy_(now)
            return values

        return replay
