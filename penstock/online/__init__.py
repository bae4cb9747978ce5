"""Values by key, newest by token, and the control plane beside them."""
