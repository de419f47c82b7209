"""BiCGSTAB (van der Vorst 1992) stopped by the largest residual, which is what a contraction bound speaks of.

SciPy's stops by the Euclidean norm, and its inner products of long vectors go through threaded BLAS, which beside JAX's own threads took
ten times as long as all the rest.
"""

import math

import numpy as np

SHORT = 8192  # entries of vectors that BLAS does not share among threads
DRIFT = 1e-13  # of the residual by recurrence from the true one, relative to the largest before


@np.errstate(over="ignore", invalid="ignore")  # of a V that diverges, which the caller sees
def bicgstab(product, right, accuracy, most, precondition=lambda x: x):
    """x with max|right − A x| ≤ accuracy from zero, A given by `product` and A⁻¹ roughly by `precondition`; (x, reached), after at most
    `most` steps. Works in place: without a preconditioner `towards` and `further` are `direction` and `residual` themselves."""
    x, residual, largest = np.zeros_like(right), right.copy(), 0.0
    shadow, direction, rho = right.copy(), right.copy(), _dot(right, right)
    for _ in range(most):
        size = np.abs(residual).max()
        largest = max(largest, size)
        if size <= accuracy:
            drifted = DRIFT * largest > accuracy  # the recurrence may have lost the residual on the way
            return x, not drifted or bool(np.abs(right - product(x)).max() <= 2 * accuracy)
        towards = precondition(direction)
        image = product(towards)
        alpha = rho / _nonzero(_dot(shadow, image))
        x += alpha * towards
        residual -= alpha * image
        further = precondition(residual)
        turned = product(further)
        omega = _dot(turned, residual) / _nonzero(_dot(turned, turned))
        x += omega * further
        residual -= omega * turned
        rho, before = _dot(shadow, residual), rho
        direction -= omega * image
        direction *= (rho / _nonzero(before)) * (alpha / _nonzero(omega))
        direction += residual
        if not math.isfinite(rho):
            return x, False
    return x, bool(np.abs(residual).max() <= accuracy)


def _dot(a, b):
    return float(a.dot(b) if len(a) <= SHORT else np.einsum("i,i", a, b))


def _nonzero(value):
    return value if value != 0 else 1e-300
