"""Steps of device programs that overlap: run, timed, and predicted on paper."""
