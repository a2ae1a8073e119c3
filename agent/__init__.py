"""Who decides: the command line, and the policies that are trained from it."""
