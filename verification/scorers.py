"""What other libraries make of a softmax, called as fastsoftmax's: `names.SCORING`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from verification.exact import Array

Function = Callable[..., Any]

_LOSS = frozenset({"weight", "ignore_index", "label_smoothing", "reduction"})
TORCH_OPTIONS: Mapping[str, frozenset[str]] = {
    "cross_entropy": _LOSS,
    "cross_entropy_and_gradient": _LOSS,
}


def of_scipy() -> dict[str, Function]:
    """SciPy's: of probabilities, where it has nothing of logits."""
    from scipy import special

    def kl_divergence(p_logits: Array, q_logits: Array, *, axis: int) -> Array:
        p, q = (special.softmax(x, axis=axis) for x in (p_logits, q_logits))
        apart = special.rel_entr(p, q).sum(axis=axis)  # it has no float16
        return np.asarray(apart).astype(p.dtype)

    return {
        "kl_divergence": kl_divergence,
        "sigmoid": special.expit,
        "log_sigmoid": special.log_expit,
    }


def of_torch(
    tensor: Callable[[Array], Any], array: Callable[[Any, Array], Array]
) -> dict[str, Function]:
    """PyTorch's; ``tensor`` and ``array`` convert there and back."""
    import torch
    from torch.nn import functional

    def top_k(x: Array, k: int, *, axis: int) -> tuple[Array, Array]:
        values, indices = torch.topk(torch.softmax(tensor(x), dim=axis), k, dim=axis)
        return array(values, x), indices.numpy()

    def label_log_probabilities(x: Array, labels: Array, *, axis: int) -> Array:
        several = labels.ndim == x.ndim
        at = tensor(labels) if several else tensor(labels).unsqueeze(axis)
        log = torch.log_softmax(tensor(x), dim=axis).gather(axis, at)
        return array(log if several else log.squeeze(axis), x)

    def losses(x: Array, target: Array, axis: int, **options: Any) -> tuple[Any, Any]:
        leaf = tensor(x).requires_grad_()
        # the classes are on the second axis, where there are several
        second = min(1, x.ndim - 1)
        given = tensor(target)
        if target.ndim == x.ndim:
            given = given.movedim(axis, second)
        if "weight" in options:
            options["weight"] = tensor(options["weight"])
        return functional.cross_entropy(leaf.movedim(axis, second), given, **options), leaf

    def cross_entropy(x: Array, target: Array, *, axis: int, **options: Any) -> Array:
        return array(losses(x, target, axis, **options)[0].detach(), x)

    def cross_entropy_and_gradient(x: Array, target: Array, *, axis: int, **options: Any) -> Any:
        loss, leaf = losses(x, target, axis, **options)
        loss.sum().backward()
        return array(loss.detach(), x), array(leaf.grad, x)

    def sample(x: Array, size: int | None, *, axis: int, rng: int) -> Array:
        generator = torch.Generator().manual_seed(rng)
        p = torch.softmax(tensor(x), dim=axis).movedim(axis, -1)
        drawn = torch.multinomial(p, size or 1, replacement=True, generator=generator)
        return np.asarray((drawn[..., 0] if size is None else drawn.movedim(-1, axis)).numpy())

    def kl_divergence(p_logits: Array, q_logits: Array, *, axis: int) -> Array:
        log_p, log_q = (torch.log_softmax(tensor(x), dim=axis) for x in (p_logits, q_logits))
        apart = functional.kl_div(log_q, log_p, reduction="none", log_target=True)
        return array(apart.sum(dim=axis), p_logits)

    def softmax_vjp(p: Array, g: Array, *, axis: int) -> Array:
        given = tensor(p)
        product = torch._softmax_backward_data(tensor(g), given, axis, given.dtype)
        return array(product, p)

    def log_softmax_vjp(log_p: Array, g: Array, *, axis: int) -> Array:
        given = tensor(log_p)
        product = torch._log_softmax_backward_data(tensor(g), given, axis, given.dtype)
        return array(product, log_p)

    def logsumexp_vjp(x: Array, g: Array, *, axis: int) -> Array:
        leaf = tensor(x).requires_grad_()
        torch.logsumexp(leaf, dim=axis).backward(tensor(g))
        return array(leaf.grad, x)

    def softmax_jacobian(x: Array) -> Array:
        jacobian = torch.autograd.functional.jacobian
        return array(jacobian(lambda t: torch.softmax(t, dim=0), tensor(x)), x)

    return {
        "top_k": top_k,
        "label_log_probabilities": label_log_probabilities,
        "cross_entropy": cross_entropy,
        "cross_entropy_and_gradient": cross_entropy_and_gradient,
        "sample": sample,
        "kl_divergence": kl_divergence,
        "softmax_vjp": softmax_vjp,
        "log_softmax_vjp": log_softmax_vjp,
        "logsumexp_vjp": logsumexp_vjp,
        "softmax_jacobian": softmax_jacobian,
        "sigmoid": lambda x: array(torch.sigmoid(tensor(x)), x),
        "log_sigmoid": lambda x: array(functional.logsigmoid(tensor(x)), x),
    }
