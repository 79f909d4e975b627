"""From the canonical graph to a program: groups, forms of values, kernels, memory plan, object code."""
