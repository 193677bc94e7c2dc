from jax.numpy import arcsin as arcsin
