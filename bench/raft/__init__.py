"""The quorum by itself: three processes over loopback, with real syncs."""
