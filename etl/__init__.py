"""HYDRA lake: point-in-time features of thin commodity option markets."""
