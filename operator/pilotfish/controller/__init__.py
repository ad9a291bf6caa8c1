"""The loop around the core: events enqueue a key, one worker observes, plans and executes."""
