# SPDX-License-Identifier: Apache-2.0
"""The reference of compare.sh: torch.distributed's Gloo all-reduce.

Measured as mpi_allreduce.c measures; prints the same columns. Starts its two
processes itself:

    python3 gloo_allreduce.py 4096:1000 65536:500 1048576:100
"""
import os
import socket
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WARM_UP = 5
SIZE = 2


def pattern(index, step, rank):
    return float((index * 7 + step * 5 + rank * 3) % 16 - 8)


def dense(count, step, rank):
    index = torch.arange(count, dtype=torch.int64)
    return ((index * 7 + step * 5 + rank * 3) % 16 - 8).to(torch.float32)


def expected(index, step):
    return sum(pattern(index, step, r) for r in range(SIZE))


def iterate(source, work, marks, step, rank):
    """Returns start, end and wrong marks. Gloo reduces in place, so the input
    is copied first, outside the time."""
    for index in marks:
        source[index] = pattern(index, step, rank)
    work.copy_(source)
    dist.barrier()
    start = time.monotonic_ns()
    dist.all_reduce(work)
    end = time.monotonic_ns()
    return start, end, sum(work[i].item() != expected(i, step) for i in marks)


def measure(rank, size, iterations):
    count = size // 4
    marks = (0, count // 2, count - 1)
    source = dense(count, 0, rank)
    work = source.clone()
    errors = 0
    stamps = []
    for step in range(WARM_UP):
        errors += iterate(source, work, marks, step, rank)[2]
    for step in range(iterations):
        start, end, wrong = iterate(source, work, marks, step, rank)
        stamps.append((start, end))
        errors += wrong
    work = dense(count, 0, rank)
    dist.all_reduce(work)
    errors += int((work != sum(dense(count, 0, r)
                               for r in range(SIZE))).sum())
    total = torch.tensor([errors])
    dist.all_reduce(total)
    # From the last start to the last end: one clock for the whole machine.
    latest = torch.tensor(stamps, dtype=torch.int64)
    dist.all_reduce(latest, op=dist.ReduceOp.MAX)
    times = sorted(((latest[:, 1] - latest[:, 0]).double() / 1e3).tolist())
    if rank == 0:
        print(size, iterations, "%.3f" % times[iterations // 2],
              "%.3f" % times[(iterations - 1) * 99 // 100],
              "%.3f" % times[0], int(total), flush=True)


def worker(rank, port, work):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:%d" % port,
                            rank=rank, world_size=SIZE)
    for size, iterations in work:
        measure(rank, size, iterations)
    dist.destroy_process_group()


def main():
    work = [tuple(int(n) for n in text.split(":")) for text in sys.argv[1:]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(worker, args=(port, work), nprocs=SIZE)


if __name__ == "__main__":
    main()
