"""What happened in a simulated step, and how it is written down."""
