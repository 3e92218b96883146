"""How far Kang 2021's class at its own tolerance is from the exact flow, on the made-up weights of `scripts/vectors.py`.

    PYTHONPATH=.../robustbench python scripts/sodef_tolerance.py

Prints, for 64 images one by one and as one batch: the largest and the root mean square difference of scores from the flow (solved to
1e-10 in f64), the number of classes that change, and the same of the gradient of the cross-entropy as the class gives it (by the adjoint
equation), relative to the flow's and in signs. Needs what `scripts/vectors.py` needs for `kang2021/sodef`.
"""
import torch
import torchdiffeq

import vectors
import vectors_robustbench


def results(model, x, labels, rows):
    scores, grads = [], []
    for part, label in zip(x.split(rows), labels.split(rows)):
        part = part.clone().requires_grad_()
        out = model(part)
        torch.nn.functional.cross_entropy(out, label, reduction="sum").backward()
        scores.append(out.detach().double())
        grads.append(part.grad.double())
    return torch.cat(scores), torch.cat(grads)


def main():
    torch.manual_seed(0)
    model = vectors_robustbench.sodef().eval()
    vectors.named_weights(model, None)
    file = vectors_robustbench.home("sodef_layers")
    mean, std = (torch.tensor(vectors_robustbench.CIFAR10[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    x = (vectors.image("images", (64, 3, 32, 32)) - mean) / std
    labels = torch.arange(64) % 10
    exact, slope = results(model.double(), x.double(), labels, 1)
    print(f"scores from {exact.min():.2f} to {exact.max():.2f}")
    model = model.float()
    file.odeint = torchdiffeq.odeint_adjoint
    for rows in (1, 64):
        model[2][0].nfe = 0
        scores, grads = results(model, x, labels, rows)
        gap, other = scores - exact, (scores.argmax(1) != exact.argmax(1)).sum()
        apart = (grads - slope).flatten(1).norm(dim=1) / slope.flatten(1).norm(dim=1)
        signs = (grads.sign() == slope.sign()).double().mean()
        print(f"batches of {rows}: largest {gap.abs().max():.1e}, root mean square {gap.square().mean().sqrt():.1e}, {other} other classes; "
              f"gradients {apart.median():.1e} apart (median), {apart.max():.1e} at most, {signs:.4f} equal signs; "
              f"{model[2][0].nfe} evaluations")


if __name__ == "__main__":
    main()
