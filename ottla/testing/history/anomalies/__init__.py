"""One module for each family of anomalies. Each is a function from facts to the anomalies that they show."""
