"""What the project costs and how exact it is, measured beside its peers."""
