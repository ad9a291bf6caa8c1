"""What the demo and the end-to-end tests share: kubectl, an in-cluster model store, a client that counts failures."""
