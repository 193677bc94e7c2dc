"""An erf committee in NumPy, solved by SciPy: what the benchmarks of the ODE race against."""

import numpy as np
from scipy.integrate import solve_ivp


class NumpyCommittee:
    """dy/dalpha of an erf committee, k = m, v = v* = 1, for y = (upper triangle of Q, R).

    Written to be fast: no loops, index arrays made once, I4 for i <= k and a <= b alone.
    Source: Saad & Solla (1995), with label noise as Goldt et al. (2020), Eq. (9).
    """

    def __init__(self, teacher, lr, noise):
        self.lr, self.noise = lr, noise
        k = m = len(teacher)
        self.i, self.j = np.triu_indices(k)
        self.a, self.b = np.triu_indices(k + m)
        self.u = np.concatenate([np.ones(k), -np.ones(m)])
        self.weight = np.where(self.a == self.b, 1, 2) * self.u[self.a] * self.u[self.b]
        self.positions = np.zeros((k, k + m), int)  # where each entry of [Q, R] stands in y
        self.positions[self.i, self.j] = np.arange(len(self.i))
        self.positions[self.j, self.i] = np.arange(len(self.i))
        self.positions[:, k:] = len(self.i) + np.arange(k * m).reshape(k, m)
        self.c = np.zeros((k + m, k + m))
        self.c[k:, k:] = teacher
        self.k = k

    def __call__(self, t, y):
        c, u, i, j, a, b = self.c, self.u, self.i, self.j, self.a, self.b
        k = self.k
        top = c[:k] = y[self.positions]
        c[k:, :k] = top[:, k:].T
        s = 1 + c.diagonal()
        weight = 2 / np.pi * u / np.sqrt(s[:k, None] * s - top**2)
        c_f = weight @ c - ((weight * top).sum(1) / s[:k])[:, None] * top
        x, z, s_i, s_j, c_ij = c[i], c[j], s[i][:, None], s[j][:, None], c[i, j][:, None]
        lambda_4 = s_i * s_j - c_ij**2
        p, q = s_j * x - c_ij * z, s_i * z - c_ij * x
        scale = 1 / np.sqrt(lambda_4 * s - p * x - q * z)  # of Lambda_1, Lambda_2
        lambda_0 = lambda_4 * c[a, b] - p[:, a] * x[:, b] - q[:, a] * z[:, b]
        arcs = np.arcsin(lambda_0 * scale[:, a] * scale[:, b])
        c_c = 4 / np.pi**2 * (arcs @ self.weight) + 2 / np.pi * self.noise**2
        dq = -self.lr * (c_f[i, j] + c_f[j, i]) + self.lr**2 * c_c / np.sqrt(lambda_4[:, 0])
        return np.concatenate([dq, -self.lr * c_f[:, k:].ravel()])

    def solve(self, q, r, ts, rtol):
        y0 = np.concatenate([q[self.i, self.j], r.ravel()])
        span, atol = (ts[0], ts[-1]), rtol / 100
        return solve_ivp(self, span, y0, "DOP853", t_eval=ts, rtol=rtol, atol=atol).y.T
