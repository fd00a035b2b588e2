"""What a mirror decides, without I/O: names, filters, offsets, provenance, progress of a partition, groups."""
