"""The verifier of gradients."""
