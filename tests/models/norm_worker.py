"""One process of test_norm: its part of a batch through BatchNorm; results to a file."""

from __future__ import annotations

import sys

import torch
from torch import distributed

from geosynth.models.norm import BatchNorm


def main(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    batch = torch.load(f"{folder}/batch.pt")
    part = slice(0, 3) if rank == 0 else slice(3, None)
    results = []
    for momentum in (0.1, None):
        features = batch["features"][part].clone().requires_grad_()
        norm = BatchNorm(features.shape[1])
        norm.momentum = momentum
        for _ in range(2):
            output = norm(features)
        (output * batch["weights"][part]).sum().backward()
        values = {"output": output, "gradient": features.grad, **dict(norm.named_buffers())}
        results.append({name: value.detach() for name, value in values.items()})
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
