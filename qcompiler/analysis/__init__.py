"""Facts about a graph, each established once: integer ranges, grids of numbers, where results jump, layers."""
