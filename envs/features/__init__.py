"""What an agent observes of a graph, a cluster and a trace."""
