"""The overlap chain: the law of SGD with Gaussian inputs at finite n."""

from learndyn.dynamics.chain._simulate import simulate_chain as simulate_chain
