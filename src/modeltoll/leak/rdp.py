"""Rényi differential privacy of the Gaussian noisy maximum (GNMax), in log space.

The noise is virtual: no answer is perturbed. The result bounds how much the winning class of a vote would reveal about
the voters' private data if noise of standard deviation ``sigma`` were added to the votes.

Source: Papernot, Song, Mironov, Raghunathan, Talwar, Erlingsson: Scalable Private Learning with PATE, ICLR 2018.

In what follows q bounds the probability that noise changes the winner, L is a Rényi order, t = L - 1,
m2 = sigma sqrt(-log q) and m1 = m2 + 1. With these orders (Proposition 10) e1 = m1 / sigma^2, e2 = m2 / sigma^2, and
because -log q = m2 e2 the terms of Theorem 6 become, free of cancellation,

    log A = log(1 - q) - log(1 - exp(log q + (2 m2 - 1) / sigma^2)),    log B = (2 m2 + 1) / sigma^2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_ndtr

if TYPE_CHECKING:
    from modeltoll.records import Bools, Floats, Integers

__all__ = ["ORDERS", "epsilon", "gnmax_rdp", "log_q"]

# The orders of Dziedzic et al. 2022: {2, 2.5, ..., 99.5} and 200 log-spaced in [100, 1000].
ORDERS: Floats = np.concatenate([np.arange(2.0, 100.0, 0.5), np.geomspace(100.0, 1000.0, 200)])
ORDERS.flags.writeable = False

_BLOCK = 128  # rows per block: temporaries of 128 x 396 stay in the cache
_EXTREME = 700.0  # e^700 is finite; log(1 + e^d) is d above it, and 0 below -700


def log_q(votes: Integers, sigma: float) -> Floats:
    """Log of the bound on the probability that noise changes the winner (Proposition 7).

    q = sum over the losing classes j of Phi_bar((n_winner - n_j) / (sqrt(2) sigma)), capped at 1 - 1/C.

    Args:
        votes: counts of shape (rows, C), C >= 2, of an integer type.
        sigma: standard deviation of the noise, in votes, > 0.

    Returns:
        Shape (rows,), each below 0.
    """
    rows, winners = np.arange(len(votes)), votes.argmax(axis=1)  # faster than a maximum over a short axis
    gaps = votes[rows, winners][:, None] - votes
    largest = int(gaps.max(initial=0))
    if largest < gaps.size:  # a table over 0..largest evaluates each distinct gap once
        terms = log_ndtr(np.arange(largest + 1) / (-np.sqrt(2.0) * sigma))[gaps]
    else:
        terms = log_ndtr(gaps / (-np.sqrt(2.0) * sigma))
    terms[rows, winners] = -np.inf
    top = terms[rows, terms.argmax(axis=1)]
    total = top + np.log(np.exp(terms - top[:, None]).sum(axis=1))
    return np.asarray(np.minimum(total, np.log1p(-1.0 / votes.shape[1])))


def gnmax_rdp(log_q: Floats, sigma: float, orders: Floats, *, capped: bool = True) -> Floats:
    """RDP of one GNMax query at each order: the minimum of the data-dependent bound, where valid, and L / sigma^2.

    The data-dependent bound is that of Theorem 6 at the orders of Proposition 10. The result depends on the votes
    through ``log_q`` only, and is non-decreasing in q at every order.

    Args:
        log_q: shape (rows,), each below 0.
        sigma: standard deviation of the noise, in votes, > 0.
        orders: shape (orders,), ascending, each above 1.
        capped: False takes the data-dependent bound wherever it is valid, even where L / sigma^2 is less.

    Returns:
        Shape (rows, orders), finite and >= 0. Values below 1e-300 are correct in magnitude only.
    """
    ceiling = orders / sigma**2
    out = np.empty((log_q.size, orders.size))
    ascending = np.argsort(log_q)
    valid = int(np.count_nonzero(_bound_holds(log_q, sigma)))
    out[ascending[valid:]] = ceiling
    for start in range(0, valid, _BLOCK):
        rows = ascending[start : min(start + _BLOCK, valid)]
        bound = _theorem6(log_q[rows], sigma, orders)
        width = bound.shape[1]
        least = np.minimum(bound, ceiling[:width]) if capped else np.where(np.isinf(bound), ceiling[:width], bound)
        out[rows, :width] = least
        out[rows, width:] = ceiling[width:]
    return out


def _bound_holds(log_q: Floats, sigma: float) -> Bools:
    """Whether the conditions of Theorem 6 that do not depend on the order hold, (rows,).

    They are m2 > 1, log q + e2 < 0 and log q <= (m2 - 1) e2 - m2 (log(1 + 1/(m1 - 1)) + log(1 + 1/(m2 - 1))). With
    -log q = m2 e2 the second follows from the first, and the third becomes (2 m2 - 1) / sigma^2 >=
    log(1 + 2/(m2 - 1)). Its left side increases with m2 and its right side decreases, so it holds up to some q only.
    """
    m2 = sigma * np.sqrt(-log_q)
    above = np.maximum(m2 - 1.0, 1e-300)
    return np.asarray((m2 > 1.0) & ((2.0 * m2 - 1.0) / sigma**2 >= np.log1p(2.0 / above)))


def _theorem6(log_q: Floats, sigma: float, orders: Floats) -> Floats:
    """The bound of Theorem 6 at the orders L < m1, else infinity; orders above every m1 are left out.

    With u = log(1 - q) + t log A and v = log q + t log B it is log(e^u + e^v) / t. Both are linear in t, and so is
    d = v - u. Because u is tiny where the voters agree, the sum is computed as u + log1p(e^d), without cancellation.
    ``log_q`` is ascending, so m1 and the number of orders below it are descending.
    """
    m2 = sigma * np.sqrt(-log_q)
    counts = np.searchsorted(orders, m2 + 1.0)
    most, least = int(counts[0]), int(counts[-1])
    t = orders[:most] - 1.0
    keep = np.log1p(-np.exp(log_q))
    log_a = keep - np.log1p(-np.exp(log_q + (2.0 * m2 - 1.0) / sigma**2))
    log_b = (2.0 * m2 + 1.0) / sigma**2
    d = t * (log_b - log_a)[:, None]
    d += (log_q - keep)[:, None]
    out = _log1p_exp(d)
    out += keep[:, None]
    out *= 1.0 / t
    out += log_a[:, None]
    out[:, least:][np.arange(least, most) >= counts[:, None]] = np.inf
    return out


def _log1p_exp(d: Floats) -> Floats:
    """log(1 + e^d) in place, for monotonic rows, whose ends are their extremes."""
    ends = d[:, :: max(1, d.shape[1] - 1)]
    large = np.where(d > _EXTREME, d, 0.0) if ends.max(initial=0.0) > _EXTREME else None
    np.maximum(d, -_EXTREME, out=d)
    if large is not None:
        np.minimum(d, _EXTREME, out=d)
    np.exp(d, out=d)
    np.log1p(d, out=d)
    return d if large is None else np.maximum(d, large, out=d)


def epsilon(rdp: Floats, orders: Floats, delta: float) -> Floats:
    """Convert RDP to the epsilon of (epsilon, delta)-differential privacy, the minimum over the orders.

    min over L of rdp(L) + log(1/delta) / (L - 1) (Mironov 2017, Proposition 3).

    Args:
        rdp: shape (..., orders); that of composed queries is the sum of their RDP.
        orders: shape (orders,), each above 1.
        delta: in (0, 1).

    Returns:
        Shape (...).
    """
    return np.asarray((rdp - np.log(delta) / (orders - 1.0)).min(axis=-1))
