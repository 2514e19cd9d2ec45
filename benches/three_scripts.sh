#!/bin/bash
# Starts the three loops beside each other and waits, as their starter does. Arguments go to each of them.
trap 'kill $(jobs -p) 2>/dev/null; exit' SIGINT SIGTERM EXIT

for loop in ping iperf http; do
    python3 "$(dirname "$0")/three_scripts.py" "$loop" "$@" &
    echo "started $loop with PID $!"
done

wait
