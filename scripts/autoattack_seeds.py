#!/usr/bin/env python3
"""How much Square of the reference AutoAttack varies with its seed on `mnist_at` in L2.

    autoattack_seeds.py AUTO_ATTACK SHARED IDS SEEDS > tests/cli/square_l2_seeds.json

AUTO_ATTACK is a checkout of fra31/auto-attack, SHARED the folder of fixtures/ and data/, IDS a file of test images (one a
line), SEEDS how many seeds from 0 on. Needs torch and safetensors. The reference draws the windows of one step for the
whole batch at once, so its seeds differ more than ours, whose samples draw their own.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

EPS = 2.0


def network(path):
    net = nn.Sequential()
    for i, (cin, cout) in enumerate([(1, 16), (16, 32)], start=1):
        net.add_module(f"conv{i}", nn.Conv2d(cin, cout, 5, padding=2))
        net.add_module(f"relu{i}", nn.ReLU())
        net.add_module(f"pool{i}", nn.MaxPool2d(2))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc1", nn.Linear(32 * 49, 128))
    net.add_module("relu3", nn.ReLU())
    net.add_module("fc2", nn.Linear(128, 10))
    net.load_state_dict(load_file(path))
    return net.eval()


def main():
    reference, shared, ids, seeds = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    sys.path.insert(0, str(reference))
    from autoattack import AutoAttack

    ids = [int(line) for line in ids.read_text().split()]
    read = lambda name, skip: np.frombuffer(gzip.open(shared / "data/mnist" / name).read(), np.uint8, offset=skip)
    images = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[ids].astype(np.float32) / 255
    labels = read("t10k-labels-idx1-ubyte.gz", 8)[ids].astype(np.int64)
    x, y = torch.tensor(images), torch.tensor(labels)
    torch.set_num_threads(1)
    net = network(shared / "fixtures/models/mnist_at.safetensors")
    held = []
    for seed in range(seeds):
        attack = AutoAttack(net, norm="L2", eps=EPS, version="custom", attacks_to_run=["square"], device="cpu", verbose=False, seed=seed)
        attack.square.seed = seed
        found = attack.run_standard_evaluation(x, y, bs=250)
        held.append(int((net(found).argmax(1) == y).sum()))
        print(f"seed {seed}: {held[-1]} of {len(ids)}", file=sys.stderr)
    print(json.dumps({"model": "mnist_at", "attack": "square", "norm": "L2", "eps": EPS, "ids": ids, "held": held}))


if __name__ == "__main__":
    main()
