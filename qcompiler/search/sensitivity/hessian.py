"""HAWQ-V2: the mean of the Hessian's diagonal by Hutchinson's estimator, times the squared error of the weights.

    S(c) = tr(H) / n * ||Q_c(W) - W||^2,   tr(H) = E[v^T H v],  v uniform in {-1, 1}^n

(Dong et al., arXiv:1911.03852, sections 3.1 and 3.2.) The loss is the cross entropy between the float model's own
output distribution and the outputs; its gradient there is zero and its Hessian the Gauss-Newton matrix, so that no
labels are needed. Where the output is no distribution (a last axis of one), it is half the squared error.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.attention
from torch import Tensor

from qcompiler.search.sensitivity.base import Provider, Subject, zeros


class HutchinsonTrace(Provider):
    """See the module docstring.

    Args:
        vectors: Rademacher vectors; the standard error of a trace falls with their square root.
        samples: calibration samples that the Hessian is taken over.
    """

    name = "hessian"
    needs = "data, gradients"

    def __init__(self, vectors: int = 16, samples: int = 4) -> None:
        self.vectors, self.samples = vectors, samples

    def rows(self, study: Subject) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        # The fused attention kernels have no second derivative.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            traces, errors, runs = self.mean_traces(study)
        table, spread = zeros(study.space), zeros(study.space)
        for at, group in enumerate(study.space.groups):
            for i in range(len(group.choices)):
                noise = study.weight_noise(group, i)
                table[at][i], spread[at][i] = max(0.0, traces[at]) * noise, errors[at] * noise
        return table, spread, runs

    def mean_traces(self, study: Subject) -> tuple[np.ndarray, np.ndarray, float]:
        """Mean diagonal of the Hessian over each group's weights, its standard error, and forward runs."""
        from qcompiler.executors.torch_executor import TorchExecutor

        graph = study.branch.graph
        executor = TorchExecutor(graph, autograd=True)
        groups = [study.nodes(g) for g in study.space.groups]
        values = [list({id(n.operands[1]): n.operands[1] for n in nodes}.values()) for nodes in groups]
        parameters = []
        for row in values:
            for value in row:
                executor.constants[value] = executor.constants[value].detach().clone().requires_grad_(True)
            parameters.append([executor.constants[v] for v in row])
        flat = [p for row in parameters for p in row]
        generator = torch.Generator().manual_seed(study.evaluator.workload.seed)
        found = np.zeros((self.vectors, len(groups)))
        count = 0
        for arrays in study.samples(self.samples):
            count += 1
            gradients = torch.autograd.grad(_loss(executor.run(arrays)[0]), flat, create_graph=True)
            for k in range(self.vectors):
                vectors = [_signs(p, generator) for p in flat]
                product = sum((g * v).sum() for g, v in zip(gradients, vectors, strict=True))
                # Parameters are independent in expectation: one product serves every group's block of the diagonal.
                turned = torch.autograd.grad(product, flat, retain_graph=k + 1 < self.vectors)
                by_id = {id(p): float((h * v).sum()) for p, h, v in zip(flat, turned, vectors, strict=True)}
                found[k] += [sum(by_id[id(p)] for p in row) for row in parameters]
        found /= max(1, count) * np.array([sum(p.numel() for p in row) for row in parameters])
        error = found.std(0, ddof=1) / np.sqrt(self.vectors) if self.vectors > 1 else np.zeros(len(groups))
        runs = count * (2 + 2 * self.vectors) / max(1, len(study.evaluator.workload.judged))
        return found.mean(0), error, runs


def _loss(output: Tensor) -> Tensor:
    if output.shape[-1] > 1:
        wanted = output.detach().softmax(-1)
        return -(wanted * output.log_softmax(-1)).sum(-1).mean()
    return 0.5 * (output - output.detach()).square().sum(-1).mean()


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, like.shape, generator=generator).to(like.dtype).mul_(2).sub_(1)
