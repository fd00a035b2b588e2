"""What every other package stands on: ports, errors, ids. Pure; imports nothing of Ottla."""
