"""The production side of the ports: files and sync threads, the event loop's clock, a worker process."""
