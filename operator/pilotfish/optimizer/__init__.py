"""What runs inside the optimization Job: a model goes in, a proven Triton model repository comes out."""
