"""How a policy learns: policy gradients, outcomes of moves, lessons of searches."""
