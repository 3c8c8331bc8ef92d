"""Language models: conversation in, reply text out."""
