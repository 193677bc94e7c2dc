"""Gaussian integrals as functions of covariances; nothing here knows of a problem.

There is a module for each activation g with closed forms: `erf`, `linear` and `relu`. Each gives
`pair` and `first_layer`, which the dynamics use, and the averages of Saad & Solla (1995)

    I2 = <g(a) g(b)>,  J2 = <g'(i) g'(j)>,  I3 = <g'(i) a g(c)>,  I4 = <g'(i) g'(j) g(a) g(b)>.

Those of `erf` and `linear` take the overlaps themselves, as arrays that broadcast: I2(aa, ab, bb),
J2(ii, ij, jj), I3(ii, ia, ic, ac, cc), I4(ii, ij, jj, ia, ib, ja, jb, aa, ab, bb), where ia is the
covariance of the fields i and a. Those of `relu` take a covariance matrix and indices, because
their form depends on which of the fields coincide. `piecewise_linear` takes functions with knots
anywhere, different ones for student and teacher, and biases.
"""
