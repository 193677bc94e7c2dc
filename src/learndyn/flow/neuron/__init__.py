"""The linear neuron f(x) = a w·x: what gradient flow does to it, in closed form."""
