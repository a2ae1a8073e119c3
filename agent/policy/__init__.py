"""The policy: a graph network with segment-recurrent attention."""
