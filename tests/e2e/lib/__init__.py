"""What the end-to-end tests are made of: real processes, odd backends, exact bytes, bad networks."""
