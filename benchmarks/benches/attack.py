"""The same PGD on the same images: `robust eval` against torchattacks and Foolbox, in alternation, seconds and ratio.

Started by bench-attack. The labels are the network's own answers and epsilon is too small to fool anyone, so that all
samples go through all steps on every side.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import foolbox
import numpy
import torch
import torchattacks

import peers

EPS, STEP = 1e-4, 1e-5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("robust")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    net, x = peers.settle(peers.CifarResNet18()), torch.rand(2 * args.images, 3, 32, 32)
    with torch.no_grad():
        net.train()(x[:64])
        top = net.eval().requires_grad_(False)(x).topk(2)
        clear = (top.values[:, 0] - top.values[:, 1]).topk(args.images).indices
        x, y = x[clear].contiguous(), top.indices[clear, 0]
    last = peers.copy.deepcopy(net).to(memory_format=torch.channels_last)

    def batches(attack):
        for i in range(0, args.images, 64):
            attack(x[i : i + 64], y[i : i + 64])

    def foolbox_pgd(net):
        model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.LinfPGD(rel_stepsize=None, abs_stepsize=STEP, steps=args.steps)
        return lambda x, y: attack(model, x, y, epsilons=EPS)

    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        torch.save(net.state_dict(), at("net.pth"))
        numpy.save(at("x.npy"), x.numpy())
        numpy.save(at("y.npy"), y.numpy())

        def ours():
            run = tempfile.mkdtemp(dir=folder)
            attack = f"pgd-linf:eps={EPS},step={STEP},steps={args.steps}"
            command = [args.robust, "eval", "--model", f"{at('net.pth')}?mean=none", "--dataset"]
            command += [f"npy:{at('x.npy')},{at('y.npy')}", "--attack", attack, "--out", run, "--no-doctor"]
            subprocess.run(command + ["--threads", str(args.threads)], check=True, capture_output=True)
            session = json.load(open(os.path.join(run, "run.json")))["sessions"][0]
            outside.append(1 - session["network_seconds"] / session["seconds"])
            rows = json.load(open(os.path.join(run, "summary.json")))["results"]
            assert rows[0]["robust_accuracy"] == 1, "a sample was lost: the work is not the same"

        pgd = lambda net: torchattacks.PGD(net, eps=EPS, alpha=STEP, steps=args.steps)
        sides = {
            "ours": ours,
            "torchattacks": lambda: batches(pgd(net)),
            "torchattacks, channels-last": lambda: batches(pgd(last)),
            "Foolbox": lambda: batches(foolbox_pgd(net)),
            "Foolbox, channels-last": lambda: batches(foolbox_pgd(last)),
        }
        outside, times = [], {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, side in sides.items():
                start = time.perf_counter()
                side()
                times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(t) for name, t in times.items()}
    for name, seconds in median.items():
        print(f"{name}: {seconds:.1f} s ({', '.join(f'{t:.1f}' for t in times[name])})")
    best = min(s for name, s in median.items() if name != "ours")
    print(f"the faster / ours, start of the process and files included: {best / median['ours']:.2f}")
    print(f"outside the network: {statistics.median(outside):.1%} of our run")


main()
