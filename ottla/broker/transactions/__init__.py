"""A broker's part in transactions: coordinators' requests, markers, and what leaders ask before a first batch."""
