"""What an op costs, in flops and bytes: formulas by kind, and one table per framework."""
