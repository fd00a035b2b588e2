"""The gRPC door: `ottla.v1`, health checking and reflection. Messages to the broker's requests and back; no rules."""
